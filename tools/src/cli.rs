//! What can be typed: commands, options and the values they take. Clap answers usage errors itself, with exit code 2.

use std::path::PathBuf;

use chainring::disk::WritePath;
use chainring::{AsOf, Position, Remembered, Timestamp, Version};
use chainring_format::limits::SEGMENT_BYTES_MAX;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::{form, time};

/// Smaller segments than this are for the engine's own tests.
const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// What is measured with larger bodies is only the device.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// Beyond this nearly every event goes to one stream.
const ZIPF_EXPONENT_MAX: f64 = 10.0;
/// Shorter than this says nothing, longer than an hour nobody waits.
const SECONDS_MIN: f64 = 0.1;
const SECONDS_MAX: f64 = 3600.0;

/// Chainring: an embedded event log that can prove what it says.
#[derive(Debug, Parser)]
#[command(name = "chainring", version, about, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Directory of the log
    #[arg(long, global = true, env = "CHAINRING_LOG", value_name = "DIR")]
    pub(crate) log: Option<PathBuf>,
    /// Print one JSON object, or JSON lines, and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new, empty log
    Init(Init),
    /// Append the events of files in the import form
    Import(Import),
    /// Write events in the import form, one JSON object a line
    Export(Export),
    /// Show the state of one stream, or of all, as of any point
    State(State),
    /// Show the timeline of a stream, and what every event changed
    History(History),
    /// Show how a stream differs between two points
    Diff(Diff),
    /// Find events by type, actor, correlation, authority or time
    Find(Find),
    /// Show what an event was decided against, what allowed it, what it changed and what came of it
    Explain(Explain),
    /// List everything that an event caused or that was decided against what it wrote, through all steps
    Dependents(Dependents),
    /// Show how an event, and everything that depends on it, can be taken back
    UndoPlan(UndoPlan),
    /// Take an event back by its plan, wholly or not at all
    Compensate(Compensate),
    /// List what a policy, rule, stream or event has allowed
    AuthorisedBy(AuthorisedBy),
    /// List events whose authority was not in force when they were recorded
    WrongAuthority(WrongAuthority),
    /// Judge recorded decisions by another version of what allowed them, and list those that come out otherwise
    ReAdmit(ReAdmit),
    /// List what an actor was refused, and why
    Attempts(Attempts),
    /// Show what was done in a run, with what it shares with the runs it came from
    Run(Run),
    /// List intents of which nobody has said what came of them
    OpenIntents,
    /// Show what an actor could have done by its grants, and what of that it did
    Scope(Scope),
    /// List streams and their versions
    Streams(Streams),
    /// Show the events of one stream
    Cat(Cat),
    /// Show the last events of the log
    Tail(Tail),
    /// Show what the log is made of
    Info,
    /// Write padded segments anew without their padding
    Pack,
    /// Make the index anew, which finds streams and events without reading the log
    Reindex,
    /// Make a verified copy of the log, also while it is written, or bring one up to date
    Backup(Backup),
    /// Check every checksum, link and digest
    Verify(Verify),
    /// Make, show and change the key that signs checkpoints
    Keys(Keys),
    /// Seal everything so far, sign a checkpoint over it and print it
    Checkpoint(Checkpoint),
    /// Write a proof of an event or a stream, for those who have only the key
    Prove(Prove),
    /// Ask others to witness the last checkpoint, and bind what they answer
    Anchor(Anchor),
    /// Write the tree under the last checkpoint as static files, as mirrors and monitors of transparency logs read it
    Tiles(Tiles),
    /// Check a proof, without any log
    Check(Check),
    /// Explain in words whether the log is sound, and what to do if it is not
    Fsck,
    /// Copy everything intact of a damaged log to a new one
    Salvage(Salvage),
    /// Tell, take back and prove one wrong cancellation
    Demo(Demo),
    /// Measure appending, reading or verifying on this machine, beside what the machine itself can do
    Bench(Bench),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Appending
    Ingest,
    /// Scanning everything, then reading single streams
    Read,
    /// Verifying every checksum, link and digest
    Verify,
}

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// On stable storage
    Durable,
    /// Handed to the operating system
    Written,
}

/// Options of `bench`. Not every subject uses every one.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) subject: Subject,
    /// Threads that append, read or verify; verify takes all cores where nothing is said, the others one
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<u64>,
    /// Receipts that each thread leaves outstanding; 1 = append and wait
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub(crate) in_flight: u64,
    /// Size of a body, such as 256, 1KiB, 4MiB
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = payload_bytes)]
    pub(crate) payload: u64,
    /// Streams that events go to, such as 10k, 1M
    #[arg(long, value_name = "N", default_value = "10k", value_parser = at_least_one)]
    pub(crate) streams: u64,
    /// Exponent of the Zipf distribution of events over streams; 0 = all alike
    #[arg(long, value_name = "S", default_value = "0", value_parser = zipf_exponent)]
    pub(crate) zipf: f64,
    /// Events of an atomic batch; 1 = single events
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub(crate) batch: u64,
    /// When an append counts as done
    #[arg(long, value_enum, default_value = "durable")]
    pub(crate) durability: Level,
    /// How long to measure, warm-up and baseline not counted
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Events of the store that is read or verified, such as 200k, 1M
    #[arg(long, value_name = "N", default_value = "1M", value_parser = at_least_one)]
    pub(crate) events: u64,
    /// Where to measure: a new directory is made in this one and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Which way bytes take to the disk: auto, portable or uring
    #[arg(long, value_name = "PATH", default_value = "auto")]
    pub(crate) write_path: WritePath,
    /// Draw what was measured
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Do not measure what the machine itself can do
    #[arg(long)]
    pub(crate) no_baseline: bool,
}

/// Options of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory of the copy: absent, empty, or an earlier copy of this log
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

/// Options of `salvage`.
#[derive(Debug, Args)]
pub(crate) struct Salvage {
    /// Directory of the new log, which must be empty or absent
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    pub(crate) to: Option<PathBuf>,
    /// Names that streams may have, one a line, for streams whose own name is lost
    #[arg(long, value_name = "FILE")]
    pub(crate) names: Option<PathBuf>,
    /// Also copy events of which nothing is wrong but the link
    #[arg(long)]
    pub(crate) include_tampered: bool,
    /// Only say what would be copied and what is missing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the store and its two spoiled copies in this directory, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Name of the log, kept in its first record
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,
    /// Key that signs the log's checkpoints from the beginning; its name is the origin
    #[arg(long, value_name = "FILE", requires = "origin")]
    pub(crate) key: Option<PathBuf>,
    /// Largest size of a segment file, such as 64MiB; at least 256KiB
    #[arg(long, value_name = "N", value_parser = segment_bytes)]
    pub(crate) segment_bytes: Option<u64>,
}

/// Who decides whether a write is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gate {
    /// Take the history as it was: the versions in the file must come out
    None,
    /// Refuse a batch whose expected versions are not those of the log
    Expected,
    /// Refuse a batch that expects or has read other versions than those of the log, or whose authority is not in force; take everything else
    Full,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files to read, plain or zstd; - is the standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What to do about writes made against another version
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) gate: Gate,
    /// Print a line `batch TAB last position` for every batch as it becomes durable
    #[arg(long)]
    pub(crate) ack: bool,
    /// What was seen of this log before; without it nothing is appended
    #[arg(long, value_name = "POSITION[:LINK]")]
    pub(crate) expect_at_least: Vec<Remembered>,
    /// The log was put back to an earlier state on purpose; forget what is remembered beside it
    #[arg(long)]
    pub(crate) accept_rollback: bool,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Only this stream
    #[arg(long, value_name = "S")]
    pub(crate) stream: Option<String>,
    /// First position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    pub(crate) from: u64,
    /// Last position
    #[arg(long, value_name = "POSITION", default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) to: u64,
    /// Instead of that a receipt for this event, as a COSE_Sign1 (RFC 9942)
    #[arg(long, value_name = "EVENT", requires_all = ["key", "out"], conflicts_with_all = ["stream", "from", "to"])]
    pub(crate) cose: Option<String>,
    /// The key that signed the checkpoint
    #[arg(long, value_name = "FILE", requires = "cose")]
    pub(crate) key: Option<PathBuf>,
    /// The file for the receipt
    #[arg(long, value_name = "FILE", requires = "cose")]
    pub(crate) out: Option<PathBuf>,
}

/// A point in the history of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    /// As it was typed.
    pub(crate) text: String,
    pub(crate) as_of: AsOf,
}

/// How states are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// {"stream","version","state"} a line
    Json,
    /// stream TAB version TAB sha256 of the canonical state
    Tsv,
}

/// Options of `state`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["stream", "all"]))]
pub(crate) struct State {
    /// The stream
    #[arg(value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// Every stream there is
    #[arg(long)]
    pub(crate) all: bool,
    /// position:N, version:N, event:ID, recorded:TIME or occurred:TIME (RFC 3339)
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) as_of: Option<Point>,
    /// Keep states of the stream in this directory, so that they need not be made of all events again
    #[arg(long, value_name = "DIR", requires = "stream")]
    pub(crate) snapshots: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) format: Format,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The stream
    pub(crate) stream: String,
    /// Up to this point: position:N, version:N, event:ID, recorded:TIME or occurred:TIME (RFC 3339)
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) as_of: Option<Point>,
}

/// Options of `diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The stream
    pub(crate) stream: String,
    /// The earlier point: position:N, version:N, event:ID, recorded:TIME or occurred:TIME (RFC 3339)
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) from: Point,
    /// The later point; now, if not said
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) to: Option<Point>,
}

/// A stretch of time, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Between {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// Options of `find`. What is given must all hold.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["event_type", "actor", "correlation", "authority", "between"]))]
pub(crate) struct Find {
    /// The type; more than one may be given
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Vec<String>,
    /// Who acted
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// The run, commit or conversation
    #[arg(long, value_name = "ID")]
    pub(crate) correlation: Option<String>,
    /// Stream, policy or rule that allowed it
    #[arg(long, value_name = "NAME")]
    pub(crate) authority: Option<String>,
    /// Recorded from one instant to another (RFC 3339), both included
    #[arg(long, value_name = "FROM..TO", value_parser = between)]
    pub(crate) between: Option<Between>,
    /// --between means the claimed time
    #[arg(long, requires = "between")]
    pub(crate) occurred: bool,
    /// In the log as of a point
    #[arg(long, value_name = "POINT", value_parser = point)]
    pub(crate) as_of: Option<Point>,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// Options of `explain`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["event", "at"]))]
pub(crate) struct Explain {
    /// Id of the event
    #[arg(value_name = "EVENT")]
    pub(crate) event: Option<String>,
    /// The last event of a stream up to this time, as claimed or else as recorded (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "stream", value_parser = instant)]
    pub(crate) at: Option<Timestamp>,
    /// The stream
    #[arg(long, value_name = "S", requires = "at")]
    pub(crate) stream: Option<String>,
}

/// What makes an event depend on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Depends {
    /// It was caused by it, or decided against what it wrote
    #[value(name = "causation+reads")]
    OnReads,
    /// Also if it was only checked with what it wrote
    #[value(name = "causation+reads+checked")]
    OnReadsAndChecked,
}

/// Options of `dependents`.
#[derive(Debug, Args)]
pub(crate) struct Dependents {
    /// Id of the event
    pub(crate) event: String,
    /// What counts
    #[arg(long, value_enum, default_value = "causation+reads")]
    pub(crate) relation: Depends,
}

/// Options of `undo-plan`.
#[derive(Debug, Args)]
pub(crate) struct UndoPlan {
    /// Id of the event
    pub(crate) event: String,
    /// Take back the whole batch that it was part of
    #[arg(long)]
    pub(crate) batch: bool,
}

/// Options of `compensate`.
#[derive(Debug, Args)]
pub(crate) struct Compensate {
    /// The plan, as `undo-plan --json` prints it; - is the standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Who takes it back
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Take back what can be, though the plan says that something stays
    #[arg(long)]
    pub(crate) accept_rest: bool,
}

/// Options of `authorised-by`.
#[derive(Debug, Args)]
pub(crate) struct AuthorisedBy {
    /// Policy, rule, stream or event, with or without a version
    #[arg(value_name = "AUTHORITY[@VERSION]")]
    pub(crate) authority: String,
}

/// Options of `wrong-authority`.
#[derive(Debug, Args)]
pub(crate) struct WrongAuthority {
    /// Only events that name this policy, rule or stream
    #[arg(long, value_name = "NAME")]
    pub(crate) authority: Option<String>,
    /// Also events of these types that name no authority at all
    #[arg(long = "require", value_name = "TYPE")]
    pub(crate) required: Vec<String>,
}

/// Options of `re-admit`.
#[derive(Debug, Args)]
pub(crate) struct ReAdmit {
    /// Policy, rule or stream; judged by the version of its stream that is given, or else by the one in force today
    #[arg(long, value_name = "NAME[@VERSION]")]
    pub(crate) policy: String,
}

/// Options of `attempts`.
#[derive(Debug, Args)]
pub(crate) struct Attempts {
    /// The actor
    pub(crate) actor: String,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The run
    pub(crate) name: String,
}

/// Options of `scope`.
#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// The actor
    pub(crate) actor: String,
    /// Recorded from one instant to another (RFC 3339), both included; ever, if not said
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], value_parser = instant)]
    pub(crate) between: Vec<Timestamp>,
}

/// Options of `streams`.
#[derive(Debug, Args)]
pub(crate) struct Streams {
    /// Only streams whose name starts so
    #[arg(long, value_name = "P", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
}

/// Options of `cat`.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// The stream
    pub(crate) stream: String,
    /// Version to start at; the first one, or the last one with --reverse
    #[arg(long, value_name = "V")]
    pub(crate) from: Option<u64>,
    /// Newest first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// Options of `tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many events
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    pub(crate) count: usize,
    /// Go on with what is appended, by whichever process, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Let the independent reader do it, which shares no code with the engine
    #[arg(long)]
    pub(crate) reader: bool,
    /// What was seen of this log before; it must still hold it
    #[arg(long, value_name = "POSITION[:LINK]")]
    pub(crate) expect_at_least: Vec<Remembered>,
    /// Do not read again what lies under a checkpoint that was kept: the log must lead to it, and what comes behind must follow
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "reader")]
    pub(crate) since: Option<PathBuf>,
    /// Go on where the last verification with --remember or --resume ended, and remember how far this one came
    #[arg(long, conflicts_with_all = ["reader", "since"])]
    pub(crate) resume: bool,
    /// Remember in the log's directory how far it holds, for --resume and for the grade that info shows
    #[arg(long, conflicts_with = "reader")]
    pub(crate) remember: bool,
    /// Read at most so much a second, such as 20MiB: for verifying beside other work
    #[arg(long, value_name = "BYTES", value_parser = bytes_per_second, conflicts_with = "reader")]
    pub(crate) rate: Option<u64>,
    /// Also check what was bound about checkpoints: that each is about a checkpoint of this log, and from when it is
    #[arg(long)]
    pub(crate) anchors: bool,
    /// With --anchors: how long a checkpoint may wait for an anchor, such as 90s, 30m or 24h. Exit code 1 if one waits for longer
    #[arg(long, value_name = "DURATION", value_parser = duration_ns, requires = "anchors")]
    pub(crate) anchor_every: Option<u64>,
}

/// A size in bytes, plain or with a binary suffix.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A number of things, plain or with a decimal suffix.
fn count(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn at_least_one(text: &str) -> Result<u64, String> {
    match count(text) {
        None => Err("not a count: expected a number such as 64, 10k or 1M".into()),
        Some(0) => Err("at least 1 is needed".into()),
        Some(number) => Ok(number),
    }
}

fn payload_bytes(text: &str) -> Result<u64, String> {
    let bytes = size(text).ok_or("not a size: expected a number such as 256, 1KiB or 4MiB")?;
    if bytes <= PAYLOAD_BYTES_MAX { Ok(bytes) } else { Err(format!("a body has at most {PAYLOAD_BYTES_MAX} bytes here")) }
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    size(text).filter(|&bytes| bytes > 0).ok_or_else(|| "expected a size such as 500KiB or 20MiB".into())
}

/// Nanoseconds.
fn duration_ns(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let ns = number.parse::<u64>().ok().zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds)?.checked_mul(1_000_000_000));
    ns.filter(|ns| *ns > 0).ok_or_else(|| "expected a duration such as 90s, 30m, 24h or 7d".into())
}

fn zipf_exponent(text: &str) -> Result<f64, String> {
    let exponent = text.parse::<f64>().ok().filter(|exponent| (0.0..=ZIPF_EXPONENT_MAX).contains(exponent));
    exponent.ok_or_else(|| format!("expected a number from 0 to {ZIPF_EXPONENT_MAX}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (SECONDS_MIN..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("expected a number from {SECONDS_MIN} to {SECONDS_MAX}"))
}

fn segment_bytes(text: &str) -> Result<u64, String> {
    let bytes = size(text).ok_or("not a size: expected a number such as 262144, 256KiB or 64MiB")?;
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("a segment has from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes"))
    }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    time::parse(text).ok_or_else(|| format!("{text:?} is not an RFC 3339 time such as 2025-08-01T14:14:00Z"))
}

fn between(text: &str) -> Result<Between, String> {
    let (from, to) = text.split_once("..").ok_or("expected FROM..TO, two RFC 3339 times")?;
    let between = Between { from: instant(from)?, to: instant(to)? };
    if between.from <= between.to { Ok(between) } else { Err("the first time is after the second".into()) }
}

fn point(text: &str) -> Result<Point, String> {
    Ok(Point { text: text.to_owned(), as_of: as_of(text)? })
}

fn as_of(text: &str) -> Result<AsOf, String> {
    let (kind, value) = text.split_once(':').ok_or("expected position:N, version:N, event:ID, recorded:TIME or occurred:TIME")?;
    let number = || value.parse::<u64>().map_err(|_| format!("{value:?} is not a number"));
    match kind {
        "position" => Ok(AsOf::Position(Position(number()?))),
        "version" => Ok(AsOf::Version(Version(number()?))),
        "event" if value.is_empty() => Err("an event has an id".into()),
        "event" => Ok(AsOf::Event(form::event_id(value))),
        "recorded" => Ok(AsOf::RecordedAt(time::to_nanoseconds(instant(value)?))),
        "occurred" => Ok(AsOf::OccurredAt(instant(value)?)),
        _ => Err(format!("{kind:?} is none of position, version, event, recorded, occurred")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes() {
        let cases = [
            ("262144", Some(262_144)),
            ("256KiB", Some(262_144)),
            ("64MiB", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("", None),
            ("MiB", None),
            ("1.5MiB", None),
            ("1TB", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text}");
        }
        assert!(segment_bytes("262143").is_err() && segment_bytes("262144").is_ok() && segment_bytes("9GiB").is_err());
    }

    #[test]
    fn counts() {
        let cases = [("64", Some(64)), ("10k", Some(10_000)), ("1M", Some(1_000_000)), ("2m", Some(2_000_000)), ("0", Some(0))];
        let bad = ["", "k", "1KiB", "1.5M", "-1", "1g", "99999999999999999999", "18446744073709551615k"];
        for (text, number) in cases.into_iter().chain(bad.map(|text| (text, None))) {
            assert_eq!(count(text), number, "{text}");
        }
        assert!(at_least_one("0").is_err() && at_least_one("1").is_ok());
        assert!(payload_bytes("4MiB") == Ok(4 << 20) && payload_bytes("0") == Ok(0) && payload_bytes("65MiB").is_err());
        assert!(zipf_exponent("1.1") == Ok(1.1) && zipf_exponent("-1").is_err() && zipf_exponent("NaN").is_err());
        assert!(seconds("0.3") == Ok(0.3) && seconds("0").is_err() && seconds("inf").is_err());
    }

    #[test]
    fn points() {
        assert_eq!(as_of("position:5"), Ok(AsOf::Position(Position(5))));
        assert_eq!(as_of("version:0"), Ok(AsOf::Version(Version(0))));
        assert_eq!(as_of("recorded:1970-01-01T00:00:01Z"), Ok(AsOf::RecordedAt(1_000_000_000)));
        assert_eq!(as_of("event:a:b"), Ok(AsOf::Event(form::event_id("a:b"))));
        for bad in ["", "position", "position:", "position:-1", "version:x", "event:", "occurred:yesterday", "now:1"] {
            assert!(as_of(bad).is_err(), "{bad}");
        }
    }
}

/// Options of `keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) action: KeysAction,
}

/// What is done about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Draw a key that signs checkpoints, into a file that only its owner may read
    Generate {
        /// The new file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Name of the key, if it is drawn without a log; else it takes that of the log whose checkpoints it will sign
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the public key under its name, as verifiers are configured with it
    Show {
        /// The key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Hand over to another key, in a record of the log that both have signed
    Rotate {
        /// The key in force
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The key that takes over
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// Options of `checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    /// The key that signs; a log without a key gets this one
    #[arg(long, env = "CHAINRING_KEY", value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Also write the note to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Options of `prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// Id of an event, or name of a stream
    #[arg(value_name = "EVENT|STREAM")]
    pub(crate) what: String,
    /// The file for the proof
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Only that the event's record is in the log, without what it says: a receipt
    #[arg(long)]
    pub(crate) receipt: bool,
    /// Prove that there is no such stream
    #[arg(long, conflicts_with = "receipt")]
    pub(crate) absent: bool,
    /// Also prove that the log goes on from this checkpoint, which the receiver has
    #[arg(long, value_name = "FILE")]
    pub(crate) saved_checkpoint: Option<PathBuf>,
}

/// Options of `check`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("trusted").args(["key", "policy", "saved_checkpoint"]).required(true).multiple(true))]
pub(crate) struct Check {
    /// The bundle or receipt
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The log's key, NAME+KEYID+KEY, or a file with it
    #[arg(long, value_name = "VKEY|FILE", conflicts_with = "policy")]
    pub(crate) key: Option<String>,
    /// Whose signatures are needed: a tlog-policy
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A checkpoint of the log that was seen before
    #[arg(long, value_name = "FILE")]
    pub(crate) saved_checkpoint: Option<PathBuf>,
}

/// Options of `anchor`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct Anchor {
    /// What kind of evidence
    #[arg(value_enum)]
    pub(crate) form: AnchorForm,
    /// Write what is to be sent: a query for a time stamping authority, or the checkpoint itself
    #[arg(long, value_name = "FILE", group = "what")]
    pub(crate) request: Option<PathBuf>,
    /// With --request: write the 32 bytes that an OpenTimestamps calendar takes, not the checkpoint itself
    #[arg(long, requires = "request")]
    pub(crate) digest: bool,
    /// Bind what came back into the log; the next checkpoint covers it
    #[arg(long, value_name = "FILE", requires = "key", group = "what")]
    pub(crate) reply: Option<PathBuf>,
    /// Ask a time stamping authority or an OpenTimestamps calendar by HTTP, and bind what it answers
    #[cfg(feature = "http")]
    #[arg(long, value_name = "URL", requires = "key", group = "what")]
    pub(crate) url: Option<String>,
    /// Write what was bound last in this form, as it came: to be checked, or upgraded, by others
    #[arg(long, value_name = "FILE", group = "what")]
    pub(crate) artefact: Option<PathBuf>,
    /// The checkpoint it is about. If not said: of a request the last one, of a reply the one it fits
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The log's key
    #[arg(long, env = "CHAINRING_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Kinds of evidence about a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnchorForm {
    /// Time stamp by an authority (RFC 3161)
    Rfc3161,
    /// OpenTimestamps proof
    Ots,
    /// The checkpoint with the signatures of others
    Note,
    /// Any other file
    File,
}

/// Options of `tiles`.
#[derive(Debug, Args)]
pub(crate) struct Tiles {
    /// Directory for the files; what is whole there is not written again
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}
