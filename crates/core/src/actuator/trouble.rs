//! Why something did not come about, in words.

use crate::undo::Owner;
use policy::Controls;
use std::fmt;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The unit does not exist any more, which is no failure.
    Gone,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Gone => f.write_str("it is gone"),
            Failure::Other(why) => f.write_str(why),
        }
    }
}

/// Why a unit is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The world refuses.
    World(String),
    /// What stands could not be put on record.
    Record(String),
    /// What is on record could not be read.
    Unread(String),
    /// It was changed and did not stay so.
    NotTaken {
        /// The unit.
        owner: Owner,
        /// The quota that was set, in words.
        wanted: String,
        /// The one that stands.
        found: String,
    },
    /// systemd has it, and the kernel has not.
    InKernel(Owner),
    /// The kernel has it, and systemd would undo that.
    KernelOnly {
        /// The unit.
        owner: Owner,
        /// Why systemd could not be told.
        why: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::World(why) => f.write_str(why),
            Trouble::Record(why) => write!(
                f,
                "what stands there could not be put on record first, so nothing was changed: {why}"
            ),
            Trouble::Unread(why) => write!(
                f,
                "what was changed there earlier cannot be read, so nothing is changed until it can: {why}. \
                 Restart the server, or make the file readable"
            ),
            Trouble::NotTaken {
                owner,
                wanted,
                found,
            } => write!(
                f,
                "{owner} was to have {wanted} and has {found}, or its other limits differ; something else \
                 changes them"
            ),
            Trouble::InKernel(owner) => write!(
                f,
                "the kernel still holds a limit of ours on {owner}, though systemd was told otherwise"
            ),
            Trouble::KernelOnly { owner, why } => write!(
                f,
                "{owner}: systemd could not be told ({why}); the kernel's limits were lifted without it, \
                 and the next daemon-reload brings them back"
            ),
        }
    }
}

impl std::error::Error for Trouble {}

/// A quota for people, who need no more to find out who sets it.
pub(super) fn quota_in_words(settings: &Controls) -> String {
    match settings.quota {
        Some(quota) => quota.to_string(),
        None => "no CPU quota".to_owned(),
    }
}
