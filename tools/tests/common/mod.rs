//! What the tests of the command line share: a place for a log, running the binary, comparing JSON exactly, and finding real histories.
#![allow(dead_code)] // Every test program uses its part.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) mod http;
pub(crate) mod sealed;

/// A directory of one test, gone when the test is over.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Place {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As [`Place::join`], for a command line.
    pub(crate) fn path(&self, name: &str) -> String {
        self.join(name).into_os_string().into_string().unwrap()
    }

    /// Where the log of this test lies.
    pub(crate) fn log(&self) -> PathBuf {
        self.join("log")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary, on this log.
pub(crate) fn command<S: AsRef<OsStr>>(log: &Path, args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainring"));
    command.env_remove("CHAINRING_LOG").arg("--log").arg(log).args(args);
    command
}

/// What a run left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Ran { code: output.status.code().expect("not killed"), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The one JSON object that was printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.out, self.err))
    }

    /// Everything printed, if the answer was yes.
    pub(crate) fn yes(self) -> String {
        assert_eq!(self.code, 0, "{} {}", self.out, self.err);
        self.out
    }
}

pub(crate) fn run<S: AsRef<OsStr>>(log: &Path, args: &[S]) -> Ran {
    Ran::of(command(log, args).stdin(Stdio::null()).output().unwrap())
}

/// What a command answered in JSON, which must be a yes; null if it printed none.
pub(crate) fn ran(place: &Place, args: &[&str]) -> Value {
    let ran = run(&place.log(), args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.err, ran.out);
    serde_json::from_str(&ran.out).unwrap_or(Value::Null)
}

pub(crate) fn run_with_input<S: AsRef<OsStr>>(log: &Path, args: &[S], input: &[u8]) -> Ran {
    let mut child = command(log, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    feed(&mut child, input);
    Ran::of(child.wait_with_output().unwrap())
}

/// Writes the input and closes it; a program that stopped reading is not this function's business.
pub(crate) fn feed(child: &mut Child, input: &[u8]) {
    let _ = child.stdin.take().unwrap().write_all(input);
}

/// `import` with JSON output.
pub(crate) fn import(log: &Path, file: &Path, more: &[&str]) -> Ran {
    let mut args = vec![OsStr::new("import"), file.as_os_str(), OsStr::new("--json")];
    args.extend(more.iter().map(OsStr::new));
    run(log, &args)
}

/// A JSON value with members sorted and numbers as written.
fn canonical(raw: &RawValue) -> String {
    let text = raw.get();
    match text.as_bytes()[0] {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap();
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}:{}", canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).unwrap();
            format!("[{}]", items.into_iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        b'"' => format!("{:?}", serde_json::from_str::<String>(text).unwrap()),
        _ => text.to_owned(),
    }
}

/// The fields of a line: canonical, without `seq`, without those that are null.
pub(crate) fn fields(line: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let said = members.into_iter().filter(|(name, value)| name != "seq" && value.get() != "null");
    said.map(|(name, value)| (name, canonical(value))).collect()
}

/// Whether two files of the form say the same, line by line.
pub(crate) fn assert_same_lines(exported: &str, source: &str) {
    let (mut a, mut b) = (exported.lines(), source.lines());
    for number in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (Some(a), Some(b)) => assert_eq!(fields(a), fields(b), "line {number}"),
            (a, b) => panic!("line {number}: {a:?} {b:?}"),
        }
    }
}

/// The folder of real histories, if this machine has it. Says loudly when it has not.
pub(crate) fn histories(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("CHAINRING_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    if folder.join("README.md").exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED {test}: no real histories in {} (set CHAINRING_DATA to their folder)", folder.display());
    None
}

pub(crate) fn unpacked(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    String::from_utf8(zstd::decode_all(file).unwrap()).unwrap()
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// Runs a program of somebody else's, which must say yes: what it printed.
pub(crate) fn peer(command: &mut Command) -> String {
    let ran = Ran::of(command.stdin(Stdio::null()).output().unwrap());
    assert_eq!(ran.code, 0, "{command:?}: {}{}", ran.err, ran.out);
    ran.out + &ran.err
}

/// A Python that has these modules. Says loudly when there is none.
pub(crate) fn python(modules: &str) -> Option<Command> {
    let is_there = Command::new("python3").args(["-c", &format!("import {modules}")]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        eprintln!("SKIPPED: this test needs python3 with {modules}");
    }
    is_there.then(|| Command::new("python3"))
}

/// What a program that reads names of files says of each of these contents, a line each. The first is in `0.content`, and so on.
pub(crate) fn answers(program: &mut Command, place: &Place, contents: &[Vec<u8>]) -> Vec<String> {
    let names = contents.iter().enumerate().map(|(index, content)| place.write(&format!("{index}.content"), content));
    let list = place.write("list", names.map(|name| format!("{}\n", name.display())).collect::<String>());
    let output = program.stdin(fs::File::open(list).unwrap()).output().unwrap();
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), contents.len(), "{}", String::from_utf8_lossy(&output.stderr));
    answers
}

/// The verifier in Python, if what it needs is there.
pub(crate) fn verifier_in_python() -> Option<Command> {
    let mut python = python("blake3, cryptography")?;
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../format-spec/verify.py"));
    Some(python)
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Copies a log, file by file.
pub(crate) fn copy_log(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // What a writer only prepares comes and goes while the copy is made.
        if entry.path().extension().is_none_or(|extension| extension != "tmp") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
