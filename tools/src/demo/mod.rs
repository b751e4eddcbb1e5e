//! `demo`: the main job on one screen. An agent cancels an order wrongly; the log shows what it knew and who allowed it, takes it back, and
//! proves all of it: to a stranger, against a flipped bit and against a rewritten event.
//!
//! Always: what is shown was read back from the store; every step is checked, and one that comes out otherwise is an error.
//! Never: leaves anything behind, unless told where.
//!
//! | module | job |
//! |---|---|
//! | [`story`], [`author`] | the run, and how it gets into the log |
//! | [`telling`], [`told`] | the run told from the log |
//! | [`proof`], [`tamper`], [`jury`] | verifying, spoiling copies, who verifies |
//! | [`folded`] | states of streams |

mod author;
mod folded;
mod jury;
mod proof;
mod story;
mod tamper;
mod telling;
mod told;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chainring::{Expected, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::output::{Answer, Failure, STRONG};
use author::Author;
use proof::Proof;
use story::{Mistake, Remedy};
use tamper::cannot;

/// The demo takes some twenty commits of a block each.
const SEGMENT_BYTES: u64 = 256 << 10;

/// The command. Leaves `store/`, `flipped/` and `rewritten/` in the directory `keep`, which must be empty or absent. With `json` one object
/// is written instead of the story. Styles are always written: `to` takes them out where nobody can see them.
pub(crate) fn run(keep: Option<&Path>, json: bool, to: &mut dyn Write) -> Answer {
    let started = Instant::now();
    let place = Place::new(keep)?;
    let (mistake, remedy, proof) = if json { tell(place.root(), &mut io::sink())? } else { tell(place.root(), to)? };
    if json {
        let mut object = summary(&mistake, &remedy, &proof);
        object["kept"] = keep.map(|keep| keep.display().to_string()).into();
        object["seconds"] = started.elapsed().as_secs_f64().into();
        writeln!(to, "{object}")?;
    } else {
        look_around(keep, to)?;
    }
    to.flush()?;
    place.leave()?;
    Ok(true)
}

/// Tells the whole story below a directory.
fn tell(root: &Path, out: &mut dyn Write) -> Result<(Mistake, Remedy, Proof), Failure> {
    let log = Options::new().segment_bytes(SEGMENT_BYTES).origin("chainring demo").open(root.join("store"))?;
    let author = Author::new(&log);
    let chat = story::a_parcel_is_late(&author)?;
    let mistake = story::the_agent_cancels(&author, &chat)?;
    telling::title(&log, &mistake, out)?;
    telling::what_happened(&log, &mistake, out)?;
    telling::as_of_any_moment(&log, &mistake, out)?;
    telling::why(&log, &mistake, out)?;
    let remedy = story::staff_take_it_back(&author, &mistake)?;
    telling::taken_back(&log, &mistake, &remedy, out)?;
    let key = proof::seal(&log)?;
    log.close()?;
    let proof = proof::prove(root, &mistake, &key, out)?;
    Ok((mistake, remedy, proof))
}

/// How to go on from here.
fn look_around(keep: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let root = keep.unwrap_or(Path::new("DIR"));
    let cat = format!("chainring --log {} cat '{}'", quoted(&root.join("store")), story::ORDER);
    let verify = format!("chainring --log {} verify", quoted(&root.join("rewritten")));
    let first = if keep.is_some() { cat } else { format!("chainring demo --keep DIR   then   {cat}") };
    writeln!(out, "\n{STRONG}Look around{STRONG:#}  {first}\n             {verify}")?;
    Ok(())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "/._-+,:@".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The outcome for programs.
fn summary(mistake: &Mistake, remedy: &Remedy, proof: &Proof) -> Value {
    let refused = [&mistake.gated, &mistake.stale].map(|refusal| {
        let conflicts = refusal.conflicts.iter().map(|conflict| {
            let expected = if let Expected::Exactly(version) = conflict.expected { Some(version.0) } else { None };
            json!({ "stream": conflict.stream, "expected": expected, "found": conflict.found.0 })
        });
        json!({ "actor": refusal.actor, "type": refusal.event_type, "conflicts": conflicts.collect::<Vec<_>>() })
    });
    json!({
        "ok": true,
        "mistake": [mistake.cancelled.to_string(), mistake.refunded.to_string()],
        "remedy": [remedy.reinstated.to_string(), remedy.reversed.to_string()],
        "refused": refused,
        "store": jury::json(&proof.store),
        "flipped": jury::json(&proof.flipped),
        "rewritten": jury::json(&proof.rewritten),
    })
}

/// An unexpected result ends the demo.
fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::No(format!("the demo did not come out as it must: {otherwise}"))) }
}

/// Where the stores go.
enum Place {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn new(keep: Option<&Path>) -> Result<Place, Failure> {
        let Some(keep) = keep else {
            let temporary = TempDir::with_prefix("chainring-demo-");
            return temporary.map(Place::Temporary).map_err(|error| cannot("make a directory in", &std::env::temp_dir(), &error));
        };
        match fs::read_dir(keep).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                return Err(Failure::No(format!("{} is not empty; the demo keeps its stores in a new or empty directory", keep.display())));
            }
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(keep).map_err(|error| cannot("create", keep, &error))?;
            }
            Err(error) => return Err(cannot("use", keep, &error)),
        }
        Ok(Place::Kept(keep.to_owned()))
    }

    fn root(&self) -> &Path {
        match self {
            Place::Kept(root) => root,
            Place::Temporary(directory) => directory.path(),
        }
    }

    /// Removes what is not to be kept, and says if that fails.
    fn leave(self) -> Result<(), Failure> {
        match self {
            Place::Kept(_) => Ok(()),
            Place::Temporary(directory) => {
                let root = directory.path().to_owned();
                directory.close().map_err(|error| cannot("remove", &root, &error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chainring::Store;

    use super::*;

    /// What a terminal without colours shows.
    fn shown(keep: Option<&Path>, json: bool) -> String {
        let mut to = anstream::StripStream::new(Vec::new());
        assert!(run(keep, json, &mut to).unwrap());
        String::from_utf8(to.into_inner()).unwrap()
    }

    #[test]
    fn it_ends_well_on_one_screen_and_always_tells_the_same() {
        let text = shown(None, false);
        assert_eq!(text, shown(None, false));
        assert!(text.lines().count() <= 60, "{}", text.lines().count());
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        for said in [
            "At 2:14 pm agent:support-4 cancels order-#W1042.",
            "order-#W1042 was expected at version 2, but is at version 3",
            "allowed by   policy-cancellations v1 cancel-order",
            "policy-cancellations@1, stale: it was at 2",
            "compensates 13 OrderCancelled",
            "states as at position 12",
            "ok        25 records",
            "order-#W1042 has 4 events and no others",
            "corrupt   one bit turned the refund of 189.90 into 989.90",
            "tampered  agent:support-4 became user:mara_lindt",
            "the link does not follow from the record and its predecessors (rule H1)",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        assert!(text.ends_with("chainring --log DIR/rewritten verify\n"), "{text}");
    }

    #[test]
    fn it_keeps_three_stores_in_a_new_directory_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let keep = directory.path().join("new/demo");
        let text = shown(Some(&keep), false);
        assert!(text.contains(&format!("chainring --log {} cat 'order-#W1042'", keep.join("store").display())), "{text}");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&keep).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(), ["flipped", "rewritten", "store"]);
        let kinds = ["store", "flipped", "rewritten"].map(|name| jury::judge(&keep.join(name)).unwrap().fault.map(|fault| fault.kind));
        assert_eq!(kinds, [None, Some("corrupt".into()), Some("tampered".into())]);

        // What lies there already is never mixed with.
        assert!(matches!(run(Some(&keep), false, &mut Vec::new()), Err(Failure::No(why)) if why.contains("not empty")));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(run(Some(&file), false, &mut Vec::new()), Err(Failure::Cannot(_))));
        assert_eq!(names(), ["flipped", "rewritten", "store"]);

        let place = Place::new(None).unwrap();
        let root = place.root().to_owned();
        fs::create_dir(root.join("store")).unwrap();
        place.leave().unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn the_run_is_well_formed() {
        let directory = tempfile::tempdir().unwrap();
        shown(Some(directory.path()), true);
        let store = Store::open(directory.path().join("store")).unwrap();
        assert_eq!(store.report().opened, chainring::Opened::Clean);
        let view = store.latest();
        let mut latest = String::new();
        for event in view.events() {
            let event = event.unwrap();
            let (metadata, id) = (event.metadata().unwrap(), event.event_id().to_string());
            assert!(serde_json::from_slice::<Value>(event.body().unwrap()).unwrap().is_object(), "{id}");
            assert!(id.ends_with(&format!("-8000-8000-{:012}", event.position().0)), "{id}");
            assert_eq!(metadata.expected_version, Some(event.version().0 - 1), "{id}");
            assert!(metadata.class.is_some() && metadata.actor.is_some(), "{id}");
            let time = crate::time::render(metadata.occurred_at.unwrap());
            assert!(time >= latest, "{id}");
            latest = time;
        }
        assert_eq!(view.events().count(), 22);
    }

    #[test]
    fn programs_get_one_object() {
        let text = shown(None, true);
        assert_eq!(text.lines().count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&object["ok"], &object["store"]["ok"], &object["kept"]), (&json!(true), &json!(true), &Value::Null));
        assert_eq!((&object["flipped"]["fault"], &object["flipped"]["position"]), (&json!("corrupt"), &json!(14)));
        assert_eq!((&object["rewritten"]["fault"], &object["rewritten"]["stream"]), (&json!("tampered"), &json!("order-#W1042")));
        let conflict = json!({ "stream": "policy-cancellations", "expected": 1, "found": 2 });
        assert_eq!(object["refused"][0]["conflicts"], json!([conflict]));
    }

    #[test]
    fn a_reader_that_goes_away_ends_it() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(run(None, false, &mut Gone), Err(Failure::NobodyReads)));
    }

    #[test]
    fn paths_for_shells() {
        let cases = [("/a/b-1.c", "/a/b-1.c"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("a;b", "'a;b'"), ("", "''")];
        for (path, text) in cases {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }
}
