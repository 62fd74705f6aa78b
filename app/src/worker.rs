//! The worker that owns the engine.
fn main() {}
