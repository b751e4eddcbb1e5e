//! The last calls, for the message of a failing test.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use super::Call;

/// Calls kept.
const TRACED_MAX: usize = 160;

/// What a call was about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    /// Offset and bytes, or a length.
    pub(super) span: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
struct Line {
    number: u64,
    text: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    lines: VecDeque<Line>,
}

impl Trace {
    fn push(&mut self, number: u64, text: String) {
        if self.lines.len() == TRACED_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { number, text });
    }

    pub(super) fn note(&mut self, number: u64, text: &str) {
        self.push(number, format!("-- {text}"));
    }

    pub(super) fn call(&mut self, number: u64, call: Call, place: Place<'_>, note: &str, failure: Option<&io::Error>) {
        let mut text = format!("{call:?} {}", place.name);
        if let Some((offset, bytes)) = place.span {
            text.push_str(&format!(" {offset}+{bytes}"));
        }
        text.push_str(note);
        if let Some(error) = failure {
            text.push_str(&format!(": {error}"));
        }
        self.push(number, text);
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{:>6} {}", line.number, line.text))
    }
}
