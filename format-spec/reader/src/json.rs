//! Just enough JSON to print what the two programs say.
//!
//! Always: strings are escaped as RFC 8259 demands. Never: parses.

use std::fmt::Write;

/// A JSON object under construction.
#[derive(Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Self {
        Object::new()
    }
}

impl Object {
    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Object("{".to_owned())
    }

    /// Adds a truth value.
    #[must_use]
    pub fn boolean(self, key: &str, value: bool) -> Self {
        self.raw(key, if value { "true" } else { "false" })
    }

    /// Adds a number, or null.
    #[must_use]
    pub fn number(self, key: &str, value: Option<u64>) -> Self {
        self.raw(key, &value.map_or_else(|| "null".to_owned(), |value| value.to_string()))
    }

    /// Adds seconds with microseconds.
    #[must_use]
    pub fn seconds(self, key: &str, value: f64) -> Self {
        self.raw(key, &format!("{value:.6}"))
    }

    /// Adds a text, or null.
    #[must_use]
    pub fn text(self, key: &str, value: Option<&str>) -> Self {
        self.raw(key, &value.map_or_else(|| "null".to_owned(), quoted))
    }

    /// Adds bytes in hexadecimal, or null.
    #[must_use]
    pub fn hex(self, key: &str, value: Option<&[u8]>) -> Self {
        let hex = value.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        self.text(key, hex.as_deref())
    }

    /// Adds a list of objects.
    #[must_use]
    pub fn list(self, key: &str, objects: impl IntoIterator<Item = Object>) -> Self {
        let objects: Vec<String> = objects.into_iter().map(Object::finish).collect();
        self.raw(key, &format!("[{}]", objects.join(",")))
    }

    /// The object as text.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn raw(mut self, key: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn strings_are_escaped() {
        let json = Object::new().text("a\"b", Some("\\\n\u{7f}ä")).number("n", None).hex("h", Some(&[0, 255])).finish();
        assert_eq!(json, "{\"a\\\"b\":\"\\\\\\u000a\u{7f}ä\",\"n\":null,\"h\":\"00ff\"}");
    }
}
