//! Picks the role, prints the one error, sets the exit code.
fn main() {}
