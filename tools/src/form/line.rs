//! Cuts one line into its fields, as raw JSON text: the known ones by place, the others by name.
//!
//! Null is absent. Never interprets a value; that is [`super::entry`]'s.

use crate::rawjson;

macro_rules! fields {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A field the form knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($name),+ }

        impl Field {
            const COUNT: usize = [$(Field::$name),+].len();

            /// The field's name in the form.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Field::$name => $text),+ }
            }

            fn named(name: &str) -> Option<Field> {
                match name { $($text => Some(Field::$name),)+ _ => None }
            }
        }
    };
}

fields! {
    Seq = "seq",
    Stream = "stream",
    Version = "version",
    Type = "type",
    Id = "id",
    Time = "time",
    Actor = "actor",
    OnBehalfOf = "on_behalf_of",
    OnBehalfOfBasis = "on_behalf_of_basis",
    Correlation = "correlation",
    Causation = "causation",
    Batch = "batch",
    Authority = "authority",
    Reads = "reads",
    Checked = "checked",
    ExpectedVersion = "expected_version",
    Compensates = "compensates",
    Class = "class",
    Reversibility = "reversibility",
    Data = "data",
}

/// The fields of one line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    known: [Option<&'a str>; Field::COUNT],
    /// Fields the form does not know, sorted by name.
    pub(super) others: Vec<(String, &'a str)>,
}

impl<'a> Line<'a> {
    /// Cuts a line; the error says why it is malformed.
    pub(super) fn cut(bytes: &'a [u8]) -> Result<Line<'a>, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
        let text = rawjson::valid(text).map_err(|error| not_json(&error))?;
        let members = rawjson::members(text).ok_or("not a JSON object")?;
        let mut line = Line { known: [None; Field::COUNT], others: Vec::new() };
        let mut seen = [false; Field::COUNT];
        for (name, value) in members {
            let name = rawjson::string(name).ok_or("a key holds half of a surrogate pair")?;
            match Field::named(&name) {
                Some(field) if std::mem::replace(&mut seen[field as usize], true) => return Err(twice(&name)),
                Some(field) => line.known[field as usize] = (value != "null").then_some(value),
                None => line.others.push((name.into_owned(), value)),
            }
        }
        line.others.sort_unstable();
        if let Some(pair) = line.others.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(twice(&pair[0].0));
        }
        line.others.retain(|(_, value)| *value != "null");
        Ok(line)
    }

    /// The field's raw text; `None` if absent or null.
    pub(super) fn raw(&self, field: Field) -> Option<&'a str> {
        self.known[field as usize]
    }
}

fn twice(name: &str) -> String {
    format!("key {name:?} occurs twice")
}

fn not_json(error: &serde_json::Error) -> String {
    // The library counts lines of its own; here a line is all there is.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("not valid JSON: {what} at column {}", error.column())
}
