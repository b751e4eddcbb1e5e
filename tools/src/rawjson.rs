//! JSON as text: cutting values out of it, and writing it in one canonical way, without ever turning a number into a float.
//!
//! Everything here takes text that [`valid`] has accepted; on other text the answers mean nothing, but nothing panics and every loop ends.
//! Invariants: numbers come out as they were written; no recursion, so nesting costs memory and not stack.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The text of the one JSON value that `text` is, without the white space around it; or why it is none.
pub(crate) fn valid(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// [`valid`] for bytes that may not even be UTF-8.
pub(crate) fn valid_bytes(bytes: &[u8]) -> Option<&str> {
    valid(std::str::from_utf8(bytes).ok()?).ok()
}

/// The smallest pieces of JSON text, each with the offset where it starts; white space, commas and colons are passed over.
#[derive(Clone)]
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Token<'a> {
    Open(u8),
    Close,
    /// A string with its quotes, a number, or a literal.
    Scalar(&'a str),
}

fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

/// Offset behind the string whose opening quote is at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, Token<'a>);

    fn next(&mut self) -> Option<(usize, Token<'a>)> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at)?, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') {
            self.at += 1;
        }
        let start = self.at;
        let end = match bytes[start] {
            b'{' | b'[' | b'}' | b']' => start + 1,
            b'"' => string_end(bytes, start),
            _ => {
                let more = |b: &u8| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'{' | b'[' | b'}' | b']' | b'"');
                bytes[start..].iter().position(|b| !more(b)).map_or(bytes.len(), |length| start + length)
            }
        };
        self.at = end;
        Some(match bytes[start] {
            open @ (b'{' | b'[') => (start, Token::Open(open)),
            b'}' | b']' => (start, Token::Close),
            _ => (start, Token::Scalar(self.text.get(start..end)?)),
        })
    }
}

impl<'a> Tokens<'a> {
    /// The text of the next value; `None` at the end of the container.
    fn value(&mut self) -> Option<&'a str> {
        let (start, first) = self.next()?;
        let mut depth = match first {
            Token::Scalar(text) => return Some(text),
            Token::Close => return None,
            Token::Open(_) => 1_usize,
        };
        while depth > 0 {
            match self.next()?.1 {
                Token::Open(_) => depth += 1,
                Token::Close => depth -= 1,
                Token::Scalar(_) => {}
            }
        }
        self.text.get(start..self.at)
    }
}

/// Name and value of each member of an object, as written, in order, repeats included; `None` if it is no object.
pub(crate) fn members(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let mut tokens = tokens(text);
    let is_object = matches!(tokens.next(), Some((_, Token::Open(b'{'))));
    is_object.then(|| std::iter::from_fn(move || Some((tokens.value()?, tokens.value()?))))
}

/// Each element of an array, as written; `None` if it is no array.
pub(crate) fn elements(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut tokens = tokens(text);
    let is_array = matches!(tokens.next(), Some((_, Token::Open(b'['))));
    is_array.then(|| std::iter::from_fn(move || tokens.value()))
}

/// What a string says; `None` if it is no string, or holds half of a surrogate pair, which no UTF-8 can say.
pub(crate) fn string(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str::<String>(text).ok().map(Into::into) } else { Some(inner.into()) }
}

/// The name of a member. Where it has no UTF-8 (see [`string`]) its escapes stand for themselves.
pub(crate) fn name(text: &str) -> String {
    string(text).map_or_else(|| text.trim_matches('"').to_owned(), std::borrow::Cow::into_owned)
}

/// Appends `text` as a JSON string: only what JSON demands is escaped.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// The same value on one line: without the white space between its parts.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, token) in tokens(text) {
        // What stands between two tokens is white space, commas and colons.
        out.extend(text[end..start].chars().filter(|c| matches!(c, ',' | ':')));
        let length = if let Token::Scalar(scalar) = token { scalar.len() } else { 1 };
        out.push_str(&text[start..start + length]);
        end = start + length;
    }
    out
}

/// A container that is still open while [`canonical`] reads it.
enum Open {
    Array(Vec<u8>),
    Object { members: BTreeMap<String, Vec<u8>>, name: Option<String> },
}

/// The canonical form: no white space, members sorted by name, the last of repeated members, strings unescaped as far as JSON allows,
/// numbers as written.
pub(crate) fn canonical(text: &str) -> String {
    let mut open: Vec<Open> = Vec::new();
    for (_, token) in tokens(text) {
        let mut done = match token {
            Token::Open(b'{') => {
                open.push(Open::Object { members: BTreeMap::new(), name: None });
                continue;
            }
            Token::Open(_) => {
                open.push(Open::Array(Vec::new()));
                continue;
            }
            Token::Scalar(text) => match open.last_mut() {
                Some(Open::Object { name: next @ None, .. }) => {
                    *next = Some(name(text));
                    continue;
                }
                _ => scalar(text),
            },
            Token::Close => match open.pop() {
                Some(Open::Array(inner)) => [b"[", inner.as_slice(), b"]"].concat(),
                Some(Open::Object { members, .. }) => object(members.iter().map(|(name, value)| (name.as_str(), value.as_slice()))),
                None => break,
            },
        };
        match open.last_mut() {
            None => return String::from_utf8(done).unwrap_or_default(),
            Some(Open::Array(inner)) => {
                if !inner.is_empty() {
                    inner.push(b',');
                }
                inner.append(&mut done);
            }
            Some(Open::Object { members, name }) => {
                members.insert(name.take().unwrap_or_default(), done);
            }
        }
    }
    String::new()
}

/// An object of these members, in this order.
pub(crate) fn object<'a>(members: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (name, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        push_string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    out
}

fn scalar(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    match string(text) {
        Some(said) => push_string(&mut out, &said),
        None => out.extend_from_slice(text.as_bytes()),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_sorts_members_and_keeps_numbers() {
        let cases = [
            (r#" { "b" : [ 1 , 2.50 , { } , [ ] ] , "a" : null } "#, r#"{"a":null,"b":[1,2.50,{},[]]}"#),
            (
                "[1E5,-0,1.0e+05,74.11999999999995,123456789012345678901234567890]",
                "[1E5,-0,1.0e+05,74.11999999999995,123456789012345678901234567890]",
            ),
            (r#"{"a":1,"a":{"x":2}}"#, r#"{"a":{"x":2}}"#),
            (r#""\u00e9\u0041\/\u007f""#, "\"éA/\u{7f}\""),
            (r#""\u0001\b\f\n\r\t\"\\""#, r#""\u0001\b\f\n\r\t\"\\""#),
            (r#"{"\u00e9":1,"z":2,"😀":3,"\uff5e":4,"\"":5,"A":6}"#, r#"{"\"":5,"A":6,"z":2,"é":1,"～":4,"😀":3}"#),
            ("true", "true"),
            (r#""""#, r#""""#),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(valid(text).unwrap()), expected);
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_kept_as_written() {
        assert_eq!(canonical(valid(r#"["\ud800"]"#).unwrap()), r#"["\ud800"]"#);
        assert_eq!(string(r#""\ud800""#), None);
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(valid(&deep).unwrap().len(), deep.len());
        assert_eq!(elements(&deep).unwrap().next().unwrap().len(), deep.len() - 2);
    }

    #[test]
    fn members_and_elements_are_cut_out_as_written() {
        let text = r#"{ "a\"b" : [1, 2] , "c":"x,y:{z}" ,"d": {"e":[]}}"#;
        let found: Vec<_> = members(text).unwrap().collect();
        assert_eq!(found, [(r#""a\"b""#, "[1, 2]"), (r#""c""#, r#""x,y:{z}""#), (r#""d""#, r#"{"e":[]}"#)]);
        assert_eq!(elements("[1, [2], \"\"]").unwrap().collect::<Vec<_>>(), ["1", "[2]", "\"\""]);
        assert!(members("[1]").is_none() && elements("{}").is_none());
        assert_eq!(members("{}").unwrap().count(), 0);
    }

    #[test]
    fn one_line_drops_only_white_space_between_tokens() {
        assert_eq!(on_one_line("{\n \"a b\" :\r [ 1,\n\t2 ]\n}"), r#"{"a b":[1,2]}"#);
    }
}
