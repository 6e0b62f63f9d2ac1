//! `hubwarden reload`, which `systemctl reload` runs.

use super::{Failure, answer::order};

pub(super) fn reload() -> Result<(), Failure> {
    order(async |client| client.reload().await)
}
