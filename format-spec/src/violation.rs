use std::fmt;

/// A rule of FORMAT.md that some bytes break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule in FORMAT.md, such as `F2`.
    pub rule: &'static str,
    /// What is wrong, in words.
    pub why: &'static str,
}

impl Violation {
    pub(crate) const fn new(rule: &'static str, why: &'static str) -> Self {
        Violation { rule, why }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.rule)
    }
}

impl std::error::Error for Violation {}
