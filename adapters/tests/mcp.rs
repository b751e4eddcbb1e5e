//! The recorder between an agent and a server: what is recorded when, and what never reaches the server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chainring::{Class, Grant, Log, Store, VerifyOptions, verify};
use serde_json::{Value, json};

/// A server in shell: writes down every line it gets; answers `fail` with a failed result, `refuse` with an error, dies on `die`, else answers.
const SERVER: &str = r#"while IFS= read -r line; do
  printf '%s\n' "$line" >> "$1"
  id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
  case "$line" in
    *'"name":"die"'*) exit 7 ;;
    *'"name":"fail"'*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"isError\":true,\"content\":[]}}" ;;
    *'"name":"refuse"'*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32602,\"message\":\"no\"}}" ;;
    *notifications*) ;;
    *) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"done\"}]}}" ;;
  esac
done"#;

struct Session {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Session {
    fn begin(place: &Path, more: &[&str]) -> Session {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chainring-mcp"))
            .arg("--log")
            .arg(place.join("log"))
            .args(["--actor", "agent", "--on-behalf-of", "user"])
            .args(more)
            .args(["--", "sh", "-c", SERVER, "server"])
            .arg(place.join("seen"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Session { child, answers }
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn call(&mut self, id: u64, tool: &str) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": { "n": id } } }));
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(Value::Null)
    }

    fn end(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }
}

fn seen(place: &Path) -> String {
    fs::read_to_string(place.join("seen")).unwrap_or_default()
}

/// Stream, type, class and body of every event.
fn recorded(place: &Path) -> Vec<(String, String, Option<Class>, String)> {
    let store = Store::open(place.join("log")).unwrap();
    let view = store.latest();
    let events = view.events().map(|event| {
        let event = event.unwrap();
        let body = String::from_utf8(event.body().unwrap().to_vec()).unwrap();
        (event.stream().unwrap().to_owned(), event.event_type().to_owned(), event.metadata().unwrap().class, body)
    });
    events.filter(|(stream, ..)| stream.starts_with("tool/")).collect()
}

#[test]
fn every_call_leaves_an_intent_and_an_outcome() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let mut session = Session::begin(place, &["--run", "run-1"]);
    session.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {} }));
    assert_eq!(session.answer()["id"], 0, "what is no call passes");
    session.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    session.call(1, "refund");
    assert_eq!(session.answer()["result"]["content"][0]["text"], "done");
    // By the time the agent knows, the log does: a reader that opens it now has both.
    let told = recorded(place);
    assert_eq!(told[0], ("tool/refund".into(), "ToolCalled".into(), Some(Class::Intent), "{\"n\":1}".into()));
    assert_eq!((told[1].1.as_str(), told[1].2), ("ToolAnswered", Some(Class::Outcome)));
    assert!(told[1].3.contains("done"));
    session.call(2, "fail");
    assert_eq!(session.answer()["result"]["isError"], true);
    session.call(3, "refuse");
    assert_eq!(session.answer()["error"]["code"], -32602);
    session.send(&json!([{ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "hidden" } }]));
    assert_eq!(session.answer()["error"]["code"], -32600);
    assert_eq!(session.end(), Some(0));
    assert_eq!(recorded(place).iter().filter(|(_, event_type, ..)| event_type == "ToolFailed").count(), 2);
    assert!(!seen(place).contains("hidden"));
    // The same run again: what was done is answered, not done again.
    let before = seen(place);
    let mut again = Session::begin(place, &["--run", "run-1"]);
    again.call(1, "refund");
    assert_eq!(again.answer()["result"]["content"][0]["text"], "done");
    again.call(3, "refuse");
    assert_eq!(again.answer()["error"]["code"], -32602);
    assert_eq!(again.end(), Some(0));
    assert_eq!(seen(place), before);
    assert_eq!(verify(place.join("log"), &VerifyOptions::default()).unwrap().fault, None);
}

#[test]
fn what_may_not_happen_does_not_reach_the_server() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let log = Log::open(place.join("log")).unwrap();
    let grant = Grant { streams: vec!["tool/refund".into()], count_max: Some(1), ..Grant::default() };
    log.grant("refunds", &grant, "boss").unwrap();
    log.close().unwrap();
    let mut session = Session::begin(place, &["--grant", "refunds"]);
    session.call(1, "refund");
    assert!(session.answer()["result"].is_object());
    for (id, tool) in [(2, "refund"), (3, "delete")] {
        session.call(id, tool);
        let answer = session.answer();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id.into(), &(-32001).into()), "{answer}");
    }
    assert_eq!(session.end(), Some(0));
    assert_eq!(seen(place).lines().count(), 1);
    let store = Store::open(place.join("log")).unwrap();
    assert_eq!(store.head("$attempts/agent").unwrap().0, 2, "what was refused is kept");
}

#[test]
fn a_server_that_dies_leaves_an_open_intent() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    let mut session = Session::begin(place, &["--run", "run-1"]);
    session.call(1, "die");
    assert_eq!(session.answer(), Value::Null);
    assert_eq!(session.end(), Some(7));
    let open = |expected: usize| {
        let store = Store::open(place.join("log")).unwrap();
        assert_eq!(store.latest().open_intents().unwrap().len(), expected);
    };
    open(1);
    // Nobody knows what came of it, so it is not done again.
    let mut again = Session::begin(place, &["--run", "run-1"]);
    again.call(1, "die");
    assert_eq!(again.answer()["error"]["code"], -32001);
    assert_eq!(again.end(), Some(0));
    open(1);
}
