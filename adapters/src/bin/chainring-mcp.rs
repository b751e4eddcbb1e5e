//! Stands between an agent and an MCP server on standard input and output, and records every tool call: `chainring-mcp --log DIR --actor NAME -- SERVER ARGS`.
//!
//! Always: a `tools/call` reaches the server after its intent is durable, and its answer reaches the agent after its outcome is. A call that may not happen, or
//! cannot be recorded, is answered with an error and never reaches the server; nor does a call without an id, of which nobody could say what came of it. Everything
//! else passes as it is. Never: changes what tools are told.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use chainring::Log;
use chainring_adapters::{Caller, Outcome, Recorder};
use clap::Parser;
use serde_json::{Value, json};

/// JSON-RPC: the call may not happen, or cannot be recorded.
const NOT_RECORDED: i64 = -32001;
/// JSON-RPC: several requests in one line, which MCP does not have.
const INVALID_REQUEST: i64 = -32600;

#[derive(Debug, Parser)]
#[command(version, about = "Records the tool calls between an agent and an MCP server on standard input and output")]
struct Args {
    /// Directory of the log; made if it is not there
    #[arg(long, env = "CHAINRING_LOG", value_name = "DIR")]
    log: PathBuf,
    /// In whose name tools are called
    #[arg(long)]
    actor: String,
    /// For whom
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// Name of the run; drawn anew if not given
    #[arg(long)]
    run: Option<String>,
    /// A grant that every call must be covered by
    #[arg(long, value_name = "NAME")]
    grant: Option<String>,
    /// The rule of the grant that is cited
    #[arg(long, requires = "grant", default_value = "tools")]
    rule: String,
    /// The server and its arguments
    #[arg(required = true, last = true)]
    server: Vec<String>,
}

/// Calls that the server has not answered, by their JSON-RPC ids: the tool.
type Pending = Arc<Mutex<HashMap<String, String>>>;

fn main() -> ExitCode {
    match record(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chainring-mcp: {error}");
            ExitCode::from(3)
        }
    }
}

fn record(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let log = Arc::new(Log::open(&args.log)?);
    let caller = Caller {
        actor: args.actor.clone(),
        on_behalf_of: args.on_behalf_of.clone(),
        grant: args.grant.clone().map(|grant| (grant, args.rule.clone())),
    };
    let drawn =
        || format!("mcp-{}-{}", SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()), std::process::id());
    let recorder = Arc::new(Recorder::new(Arc::clone(&log), caller, args.run.clone().unwrap_or_else(drawn)));
    let pending = Pending::default();
    let mut server = Command::new(&args.server[0]).args(&args.server[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let to_server = server.stdin.take().expect("it is piped");
    let agent = {
        let (recorder, pending) = (Arc::clone(&recorder), Arc::clone(&pending));
        thread::spawn(move || agent_to_server(&recorder, &pending, to_server))
    };
    server_to_agent(&recorder, &pending, &mut server)?;
    let status = server.wait()?;
    drop(recorder);
    // While the agent keeps its end open, that thread reads on, whatever became of the server: it is not waited for.
    let log = if agent.is_finished() { Arc::into_inner(log) } else { None };
    log.map_or(Ok(()), Log::close)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Passes on what the agent says, tool calls once their intent is durable. Ends when either side does.
fn agent_to_server(recorder: &Recorder, pending: &Pending, mut server: ChildStdin) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let passed = match admit(recorder, pending, &line) {
            Ok(()) => writeln!(server, "{line}").and_then(|()| server.flush()),
            Err(answer) => answer.map_or(Ok(()), |answer| say(&answer.to_string())),
        };
        if passed.is_err() {
            return;
        }
    }
}

/// Records the intent of a tool call; whatever else it is may pass. `Err` is what is answered in the server's place.
fn admit(recorder: &Recorder, pending: &Pending, line: &str) -> Result<(), Option<Value>> {
    let Ok(message) = serde_json::from_str::<Value>(line) else { return Ok(()) };
    let refused = |id: &Value, code: i64, why: String| json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": why } });
    if message.is_array() {
        return Err(Some(refused(&Value::Null, INVALID_REQUEST, "one message a line".into())));
    }
    if message["method"] != "tools/call" {
        return Ok(());
    }
    // A call that nobody wants an answer to cannot have an outcome.
    let Some(id) = message.get("id").filter(|id| !id.is_null()) else { return Err(None) };
    let (tool, arguments) = (message["params"]["name"].as_str().unwrap_or("unnamed"), &message["params"]["arguments"]);
    let body = if arguments.is_null() { "{}".to_owned() } else { arguments.to_string() };
    let key = id.to_string();
    let again = |outcome: &Outcome| match outcome {
        Outcome::Answered(body) => {
            json!({ "jsonrpc": "2.0", "id": id, "result": serde_json::from_str::<Value>(body).unwrap_or_default() })
        }
        Outcome::Failed(body) => {
            let said: Value = serde_json::from_str(body).unwrap_or_default();
            // A tool that failed has said so in a result; a request that failed, in an error.
            let member = if said.get("isError").is_some() { "result" } else { "error" };
            json!({ "jsonrpc": "2.0", "id": id, member: said })
        }
    };
    // Known to the other thread before the server can answer.
    pending.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), tool.to_owned());
    let begun = recorder.begin(tool, &key, &body);
    if !matches!(begun, Ok(None)) {
        pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
    match begun {
        Ok(None) => Ok(()),
        Ok(Some(outcome)) => Err(Some(again(&outcome))),
        Err(error) => Err(Some(refused(id, NOT_RECORDED, error.to_string()))),
    }
}

/// Passes on what the server says, answers to tool calls once their outcome is durable.
fn server_to_agent(recorder: &Recorder, pending: &Pending, server: &mut Child) -> Result<(), Box<dyn std::error::Error>> {
    let from_server = BufReader::new(server.stdout.take().expect("it is piped"));
    for line in from_server.lines() {
        let line = line?;
        if let Some((tool, key, outcome)) = answered(pending, &line)
            && let Err(error) = recorder.end(&tool, &key, &outcome)
        {
            // The agent must not act on what the log does not have.
            let _ = server.kill();
            return Err(format!("a call of {tool} was answered, and that could not be recorded: {error}").into());
        }
        say(&line)?;
    }
    Ok(())
}

/// The call that a line answers, if it answers one, and how.
fn answered(pending: &Pending, line: &str) -> Option<(String, String, Outcome)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message.get("method").is_some() {
        return None;
    }
    let key = message.get("id")?.to_string();
    let tool = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)?;
    let outcome = match (message.get("result"), message.get("error")) {
        (Some(result), _) if result["isError"] == true => Outcome::Failed(result.to_string()),
        (Some(result), _) => Outcome::Answered(result.to_string()),
        (None, error) => Outcome::Failed(error.cloned().unwrap_or_default().to_string()),
    };
    Some((tool, key, outcome))
}

/// A whole line to the agent; both threads speak.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
