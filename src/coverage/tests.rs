//! Made-up `/proc` trees in a directory of a test's own.

mod bed;
mod kinds;
mod shown;
mod worlds;
