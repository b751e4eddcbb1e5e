//! The five things a log is for, a chapter each; every example is compiled and run.

#[doc = include_str!("../guide/state.md")]
pub mod state {}

#[doc = include_str!("../guide/history.md")]
pub mod history {}

#[doc = include_str!("../guide/attribution.md")]
pub mod attribution {}

#[doc = include_str!("../guide/reversibility.md")]
pub mod reversibility {}

#[doc = include_str!("../guide/trust.md")]
pub mod trust {}
