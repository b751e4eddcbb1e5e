//! Names of the engine's own streams.

/// Grants and their end.
pub(super) fn authority(name: &str) -> String {
    format!("$authority/{name}")
}

/// What was used of a grant that has a ceiling.
pub(super) fn usage(name: &str) -> String {
    format!("$authority/{name}/use")
}

/// An approval and its one use.
pub(super) fn approval(name: &str) -> String {
    format!("$approvals/{name}")
}

/// Epochs of a run: its version is the epoch.
pub(super) fn run(run: &str) -> String {
    format!("$runs/{run}")
}

/// The run whose epochs a stream holds.
pub(super) fn run_of(stream: &str) -> Option<&str> {
    stream.strip_prefix("$runs/")
}

/// What an actor was refused.
pub(super) fn attempts(actor: &str) -> String {
    format!("$attempts/{actor}")
}
