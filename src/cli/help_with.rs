//! `hubwarden help-with`: a process that hubwarden starts for what it could not wait for itself.

use super::Failure;
use crate::hub::shared;
use sensors::helpers;
use sensors::{connector, insight, set};
use std::path::Path;

pub(super) fn help_with(work: &str) -> Result<(), Failure> {
    match work {
        set::WORK => set::help(),
        insight::WORK => insight::help(),
        connector::WORK => connector::help(),
        shared::WORK => helpers::serve(|pids: Vec<u32>| shared::servers(Path::new("/proc"), &pids)),
        _ => {
            return Err(Failure::input(format!(
                "there is no helper for {work:?}; hubwarden starts its helpers itself"
            )));
        }
    }
    .map_err(Failure::new)
}
