//! `hubwarden worker`: a process that hubwarden starts for what it could not wait for itself.

use super::Failure;
use crate::coverage;
use sensors::{connector, process_list, set};

pub(super) fn worker(work: &str) -> Result<(), Failure> {
    match work {
        set::WORK => set::work(),
        process_list::WORK => process_list::work(),
        connector::WORK => connector::work(),
        coverage::WORK => coverage::work(),
        _ => {
            return Err(Failure::input(format!(
                "there is no worker for {work:?}; hubwarden starts its workers itself"
            )));
        }
    }
    .map_err(Failure::new)
}
