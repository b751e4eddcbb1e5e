//! Where answers go: results to the standard output, messages and progress to the standard error, and a number to the shell.
//!
//! Nobody reading any more (a broken pipe) is no error. Colour and progress bars appear on terminals only.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::Style;
use chainring::{AppendError, OpenError, ReadError};
use indicatif::{ProgressBar, ProgressStyle};

/// Something that is bad news.
pub(crate) const BAD: Style = anstyle::AnsiColor::Red.on_default().bold();
/// Something that is good news.
pub(crate) const GOOD: Style = anstyle::AnsiColor::Green.on_default().bold();
/// Something that only accompanies.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Something to find at a glance.
pub(crate) const STRONG: Style = Style::new().bold();

/// How a command ends when it does not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The answer is no: damage, mismatch, refused. Exit code 1.
    No(String),
    /// Typed wrongly. Exit code 2.
    Usage(String),
    /// Could not be done: I/O, locked, not a store. Exit code 3.
    Cannot(String),
    /// Whoever read our output went away. Exit code 0.
    NobodyReads,
}

/// The answer of a command: `true` is yes, `false` is a no that was already told.
pub(crate) type Answer = Result<bool, Failure>;

/// Tells what is left to tell and gives the exit code.
pub(crate) fn conclude(answer: Answer) -> ExitCode {
    let (code, message) = match answer {
        Ok(true) | Err(Failure::NobodyReads) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(1),
        Err(Failure::No(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
        Err(Failure::Cannot(message)) => (3, message),
    };
    complain(&message);
    ExitCode::from(code)
}

/// One message on the standard error. If that is gone too there is nobody left to tell.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(anstream::stderr(), "{BAD}chainring:{BAD:#} {message}");
}

/// Errors of writing to the standard output; files have their own.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::NobodyReads
        } else {
            Failure::Cannot(format!("cannot write the output: {error}"))
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        match error {
            OpenError::Damaged(_) => Failure::No(error.to_string()),
            OpenError::InvalidOption { .. } => Failure::Usage(error.to_string()),
            _ => Failure::Cannot(error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error {
            ReadError::Io { .. } => Failure::Cannot(error.to_string()),
            _ => Failure::No(error.to_string()),
        }
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Failure {
        Failure::Cannot(error.to_string())
    }
}

/// Where results are written: the standard output, as a rule.
pub(crate) struct Out {
    to: BufWriter<Box<dyn Write>>,
    colour: bool,
    /// Whether programs read it.
    pub(crate) json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Out {
        let colour = !json && anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        Out { to: BufWriter::with_capacity(1 << 16, Box::new(io::stdout())), colour, json }
    }

    /// For people, on the standard error.
    pub(crate) fn for_messages() -> Out {
        let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        Out { to: BufWriter::new(Box::new(io::stderr())), colour, json: false }
    }

    /// The text in a style, where that can be seen.
    pub(crate) fn paint<'t>(&self, style: Style, text: &'t str) -> Cow<'t, str> {
        if self.colour { format!("{style}{text}{style:#}").into() } else { text.into() }
    }

    /// Names and values in two columns.
    pub(crate) fn table(&mut self, rows: &[(&str, String)]) -> io::Result<()> {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            let name = format!("{name:<width$}");
            let name = self.paint(DIM, &name);
            writeln!(self.to, "{name}  {value}")?;
        }
        Ok(())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what is counted.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A size for people.
pub(crate) fn sized(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = "B";
    let mut size = bytes as f64;
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// A bar on the standard error while something takes its time; hidden where that is no terminal.
pub(crate) fn progress(what: &'static str, total: u64, in_bytes: bool) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let amount = if in_bytes { "{bytes}/{total_bytes}" } else { "{human_pos}/{human_len}" };
    let template = format!("{{msg}} [{{bar:32}}] {amount} {{eta}}");
    let mut bar = ProgressBar::new(total).with_message(what);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar = bar.with_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A sign of life on the standard error, where nobody says how far it is.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1_159_707)], ["0", "999", "1,000", "1,159,707"]);
        assert_eq!([sized(0), sized(1023), sized(1536), sized(64 << 20)], ["0 B", "1023 B", "1.5 KiB", "64.0 MiB"]);
        assert_eq!([counted(1, "event", "events"), counted(2, "event", "events")], ["1 event", "2 events"]);
    }
}
