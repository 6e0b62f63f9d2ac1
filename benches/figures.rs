//! Prints `figure NAME VALUE UNIT` lines; see `make bench`.

fn main() {}
