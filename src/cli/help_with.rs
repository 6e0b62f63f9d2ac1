//! `hubwarden help-with`: a process that hubwarden starts for what it could not wait for itself.

use super::Failure;
use crate::evidence::{insight, senses};

pub(super) fn help_with(work: &str) -> Result<(), Failure> {
    match work {
        senses::WORK => senses::help(),
        insight::WORK => insight::help(),
        _ => {
            return Err(Failure::input(format!(
                "there is no helper for {work:?}; hubwarden starts its helpers itself"
            )));
        }
    }
    .map_err(Failure::new)
}
