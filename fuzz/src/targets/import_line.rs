//! One line of the import form: what is accepted comes back JSON-equal, and the same once more.

use chainring_tools::fuzzing;

use super::random::Random;
use super::{Target, is_planted, mutate};

/// See the module.
pub const TARGET: Target = Target { name: "import_line", run, seeds: starts, mutate: near, canary: "an export writes the number 1.0 as 1" };

fn run(line: &[u8]) {
    let Some(mut exported) = fuzzing::exported(line) else { return };
    if is_planted() {
        exported = exported.replace("1.0", "1");
    }
    assert!(!exported.contains(['\n', '\r']), "an exported line is one line");
    let line = std::str::from_utf8(line).expect("what was accepted is text");
    assert_eq!(fuzzing::fields(&exported), fuzzing::fields(line), "the export says something else");
    assert_eq!(fuzzing::exported(exported.as_bytes()).as_ref(), Some(&exported), "exported a second time");
}

const ID: &str = "806fb35d-21ad-596b-bd3f-a5234076332d";

/// Fields as they come, and as they should not.
const FIELDS: [&str; 26] = [
    r#""seq":7"#,
    r#""version":3"#,
    r#""stream":"order-1""#,
    r#""type":"T""#,
    r#""id":"806fb35d-21ad-596b-bd3f-a5234076332d""#,
    r#""id":"no uuid""#,
    r#""id":"00000000-0000-0000-0000-000000000000""#,
    r#""time":"2025-08-01T15:57:32.000Z""#,
    r#""time":"2025-08-01T17:57:32.123456789+02:00""#,
    r#""time":"1969-12-31T23:59:59.5Z""#,
    r#""actor":"agent:a""#,
    r#""actor":7"#,
    r#""on_behalf_of":["x"]"#,
    r#""on_behalf_of_basis":"session""#,
    r#""correlation":"\u0000\"\\\u00e9\ud83d\ude00""#,
    r#""causation":"806fb35d-21ad-596b-bd3f-a5234076332d""#,
    r#""batch":"b""#,
    r#""batch":{"a":[1]}"#,
    r#""authority":{"policy":"p","version":"1","rule":"r","sha256":"00ff","event":"806fb35d-21ad-596b-bd3f-a5234076332d"}"#,
    r#""authority":{"policy":"p","policy":"q","x":null}"#,
    r#""reads":[{"stream":"s","version":1,"state":"00"},{"stream":"t","version":0}]"#,
    r#""checked":[{"stream":"s","version":1.0}]"#,
    r#""expected_version":18446744073709551615"#,
    r#""compensates":"806FB35D-21AD-596B-BD3F-A5234076332D""#,
    r#""data":{"a":489.0,"b":74.11999999999995,"c":1E5,"d":-0,"e":[],"f":null,"g":123456789012345678901234567890,"a":1}"#,
    r#""unheard of":{"class":"fact","attributes":[{}],"\ud800":1}"#,
];

fn starts() -> Vec<Vec<u8>> {
    let with = |more: &str| format!(r#"{{"stream":"s","version":1,"type":"T","id":"{ID}"{more}}}"#).into_bytes();
    FIELDS.iter().skip(7).map(|field| with(&format!(",{field}"))).chain([with("")]).collect()
}

fn near(input: &[u8], random: &mut Random) -> Vec<u8> {
    if random.once_in(3) {
        return mutate::bytes(input, random);
    }
    // Another field, or a token in place of another, so that most lines stay JSON.
    let mut line = input.to_vec();
    for _ in 0..=random.below(3) {
        if random.once_in(2) {
            let field = format!(",{}", random.pick(&FIELDS));
            let at = line.iter().rposition(|&b| b == b'}').unwrap_or(line.len());
            line.splice(at..at, field.into_bytes());
        } else {
            swap_token(&mut line, random);
        }
    }
    line
}

fn swap_token(line: &mut Vec<u8>, random: &mut Random) {
    const TOKENS: [&str; 18] = [
        "null",
        "true",
        "0",
        "-0",
        "1.0",
        "1e400",
        "1E-5",
        "\"\"",
        "\"1\"",
        "[]",
        "{}",
        "[[[]]]",
        " ",
        "\n",
        "\r\t",
        "\"\\u0000\"",
        "18446744073709551616",
        "\"data\"",
    ];
    let ends: Vec<usize> = (0..line.len()).filter(|&at| b",:[]{}".contains(&line[at])).collect();
    let Some(&start) = ends.get(random.below(ends.len())) else { return };
    let end = ends.iter().copied().find(|&end| end > start).unwrap_or(line.len());
    let token = random.pick(&TOKENS).bytes();
    let keep = random.once_in(4);
    line.splice(start + 1..if keep { start + 1 } else { end }, token);
}
