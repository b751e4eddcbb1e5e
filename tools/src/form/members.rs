//! Writes JSON objects member by member, into memory, without a tree in between.

use std::io::Write;

use chainring::{EventId, Value};

use crate::rawjson;

/// Writes the members of one JSON object.
pub(crate) struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// Offset where the object starts.
    start: usize,
}

impl<'a> Members<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Members<'a> {
        let start = out.len();
        out.push(b'{');
        Members { out, start }
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    /// Starts a member; its value is to be appended.
    pub(super) fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if self.out.len() > self.start + 1 {
            self.out.push(b',');
        }
        rawjson::push_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn raw(&mut self, name: &str, raw: &str) {
        let out = self.name(name);
        // A line break between two tokens would end the line.
        if raw.contains(['\n', '\r']) {
            out.extend_from_slice(rawjson::on_one_line(raw).as_bytes());
        } else {
            out.extend_from_slice(raw.as_bytes());
        }
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        rawjson::push_string(self.name(name), text);
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) {
        // Writing into memory cannot fail.
        let _ = write!(self.name(name), "{number}");
    }

    pub(super) fn id(&mut self, name: &str, id: EventId) {
        let _ = write!(self.name(name), "\"{id}\"");
    }

    /// A text, if there is one.
    pub(crate) fn texts(&mut self, name: &str, text: Option<&str>) {
        text.into_iter().for_each(|text| self.text(name, text));
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        push_hex(self.name(name), bytes);
    }

    pub(super) fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&T, &mut Members<'_>)) {
        let out = self.name(name);
        out.push(b'[');
        for (k, item) in items.iter().enumerate() {
            if k > 0 {
                out.push(b',');
            }
            let mut members = Members::open(out);
            write(item, &mut members);
            members.close();
        }
        out.push(b']');
    }
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push(b'"');
}

/// A metadata value as JSON: bytes as hexadecimal text, what JSON has no number for as null. Recursion is bounded by the format.
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Uint(n) => drop(write!(out, "{n}")),
        Value::Nint(n) => drop(write!(out, "{}", -1 - i128::from(*n))),
        Value::Bytes(bytes) => push_hex(out, bytes),
        Value::Text(text) => rawjson::push_string(out, text),
        Value::Bool(value) => drop(write!(out, "{value}")),
        Value::Float(number) if number.is_finite() => drop(write!(out, "{number:?}")),
        Value::Float(_) | Value::Null => out.extend_from_slice(b"null"),
        Value::Array(items) => {
            out.push(b'[');
            for (k, item) in items.iter().enumerate() {
                if k > 0 {
                    out.push(b',');
                }
                push_value(out, item);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            let mut members = Members::open(out);
            for (key, value) in entries {
                let mut name = Vec::new();
                push_value(&mut name, key);
                let name = String::from_utf8_lossy(&name).into_owned();
                push_value(members.name(key_text(key).unwrap_or(&name)), value);
            }
            members.close();
        }
    }
}

fn key_text(key: &Value) -> Option<&str> {
    if let Value::Text(text) = key { Some(text) } else { None }
}
