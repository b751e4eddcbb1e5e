//! Just enough JSON to print a flat object.
//!
//! Always: strings are escaped as RFC 8259 demands. Never: parses.

use std::fmt::Write;

/// A JSON object under construction.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Object("{".to_owned())
    }

    pub(crate) fn boolean(self, key: &str, value: bool) -> Self {
        self.raw(key, if value { "true" } else { "false" })
    }

    pub(crate) fn number(self, key: &str, value: Option<u64>) -> Self {
        self.raw(key, &value.map_or_else(|| "null".to_owned(), |value| value.to_string()))
    }

    pub(crate) fn seconds(self, key: &str, value: f64) -> Self {
        self.raw(key, &format!("{value:.6}"))
    }

    pub(crate) fn text(self, key: &str, value: Option<&str>) -> Self {
        self.raw(key, &value.map_or_else(|| "null".to_owned(), quoted))
    }

    pub(crate) fn hex(self, key: &str, value: Option<&[u8]>) -> Self {
        let hex = value.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        self.text(key, hex.as_deref())
    }

    pub(crate) fn finish(mut self) -> String {
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
