//! The golden stores in `vectors/valid` and `vectors/invalid`: rebuilt, compared byte for byte, and judged.
//!
//! `CHAINRING_BLESS=1 cargo test -p chainring-format` rewrites the files; a change of any of them is a change of the format.

mod support;

use std::collections::BTreeMap;

use chainring_format::segment::{SegmentHeader, file_name, number_of};
use support::bless::golden_folder;
use support::case::Case;
use support::{invalid, judge, valid};

fn compare(folder: &str, cases: &[Case]) {
    let files: BTreeMap<String, Vec<u8>> = cases.iter().flat_map(Case::golden).collect();
    let expected: usize = cases.iter().map(|case| case.files.len() + 1).sum();
    assert_eq!(files.len(), expected, "two cases share a name");
    golden_folder(folder, &files);
}

#[test]
fn valid_stores_are_these_bytes() {
    compare("vectors/valid", &valid::cases());
}

/// Every case whose judge disagrees with its author, told at once.
fn judge_all(cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, judge::judge(&case.files)))
        .filter(|(case, verdict)| *verdict != case.verdict)
        .map(|(case, verdict)| format!("{}: expected {:?}, judged {verdict:?}", case.name, case.verdict))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_stores_hold() {
    let cases = valid::cases();
    assert!(cases.iter().all(|case| case.verdict.fault.is_none()));
    judge_all(&cases);
}

#[test]
fn invalid_stores_are_these_bytes() {
    compare("vectors/invalid", &invalid::cases());
}

#[test]
fn invalid_stores_break_at_the_named_place() {
    let cases = invalid::cases();
    for case in &cases {
        let fault = case.verdict.fault.as_ref().expect("an invalid store has a fault");
        assert!(case.name.starts_with(&format!("{}-", fault.rule)), "{} names another rule than {}", case.name, fault.rule);
    }
    judge_all(&cases);
}

/// Every byte that exists for a reader is held by some rule: whichever is changed, the judge names a fault, at or before that byte's block.
#[test]
fn no_byte_of_a_valid_store_is_free() {
    for case in valid::cases() {
        for (name, bytes) in case.files.iter().filter(|(name, _)| number_of(name).is_some()) {
            let successor = number_of(name).and_then(|number| case.files.get(&file_name(number + 1)));
            let successor = successor.and_then(|file| SegmentHeader::parse(file).ok());
            let packed_end = SegmentHeader::parse(bytes).expect("a valid store").packed_end();
            let named = successor.map(|next| (packed_end.unwrap_or(next.prev_end_offset.get()) + next.prev_footer_bytes.get()) as usize);
            let mut files = case.files.clone();
            // A stride that meets every residue of every block size in turn; a longer one where judging takes long.
            let stride = if bytes.len() > 16 << 10 { 701 } else { 7 };
            for at in (case.name.len() % 7..named.unwrap_or(bytes.len())).step_by(stride) {
                files.get_mut(name).expect("a file of the case")[at] ^= 0x40;
                let fault = judge::judge(&files).fault.unwrap_or_else(|| panic!("{}: byte {at} of {name} may change", case.name));
                assert_eq!(&fault.segment, name, "{}: byte {at}", case.name);
                assert!(fault.offset <= at as u64, "{}: byte {at}, fault named at {}", case.name, fault.offset);
                files.get_mut(name).expect("a file of the case")[at] ^= 0x40;
            }
        }
    }
}
