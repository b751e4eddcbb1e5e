//! What tries to break Chainring: fuzz targets as plain functions, and random histories on a simulated disk.

pub mod history;
pub mod targets;
