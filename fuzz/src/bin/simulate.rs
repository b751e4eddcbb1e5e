//! Runs random histories with faults against a model.

fn main() {}
