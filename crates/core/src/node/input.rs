//! What comes in.

use super::Sighting;
use super::look::Looked;
use crate::accounts::Newcomer;
use crate::actuator::{Answer, Failure, Ticket};
use crate::undo::{Owner, Start, Undo};
use policy::finding::Strength;
use policy::{FindingKind, Policy, Standing};
use quantities::{CgroupId, Cores, HubUser, Mode, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether verdicts are carried out.
    pub mode: Mode,
    /// Supervision is off.
    pub off: bool,
    /// The hub is asked to stop servers.
    pub by_hub: bool,
    /// The time between two ticks.
    pub tick: Duration,
    /// The use above which a server is hot.
    pub hot: Cores,
    /// How long it must have been hot, for sensors to look at it.
    pub hot_for: Duration,
    /// How long a finding stands.
    pub stands: Duration,
}

/// A place that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its cgroup.
    pub id: CgroupId,
    /// Through whom its limits are changed.
    pub owner: Owner,
    /// What is on record of its unit.
    pub record: Option<Undo>,
    /// The unit's present life.
    pub start: Start,
    /// Whose it is, and what its user may use.
    pub newcomer: Newcomer,
    /// The server that it follows, if it is a login slice.
    pub lead: Option<CgroupId>,
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum Input {
    /// The configuration, or that supervision is off or on again.
    Settings(Settings),
    /// What an earlier daemon knew of users without a place.
    Resume(BTreeMap<HubUser, (Standing, Time)>),
    /// A user's place was found.
    Found(Box<Found>),
    /// A login slice follows a server.
    Follows {
        /// The slice's cgroup.
        slice: CgroupId,
        /// The server's.
        lead: CgroupId,
    },
    /// Some came or went: each user's baseline is divided anew.
    Divide,
    /// A place is gone.
    Gone(CgroupId),
    /// A place turned out to be somebody else's, or nobody's.
    Released(CgroupId),
    /// Something is set aside that is known not to be a place, and needs a number.
    SetAside(CgroupId),
    /// What is on record of places was read at last.
    Records(Vec<(CgroupId, Undo, Start)>),
    /// What users may use changed.
    Policies(BTreeMap<CgroupId, Policy>),
    /// What is known of users who have rested enough by what each may use can be forgotten.
    Rest(BTreeMap<HubUser, Policy>),
    /// Counters were read: at a tick, or of those that were due before it.
    Looked(Box<Looked>),
    /// Where sensors look next is to be known; for how long places have waited for the CPU all in all,
    /// where that is wanted and known.
    Attend(BTreeMap<CgroupId, Option<Duration>>),
    /// Sensors found something.
    Sighted(Vec<Sighting>),
    /// What is known is weighed anew.
    Weigh,
    /// There is evidence against a place that was weighed elsewhere.
    Accused(CgroupId, Strength, FindingKind),
    /// These are brought to where they should be.
    Wake(Vec<CgroupId>),
    /// What became of a request.
    Answer(CgroupId, Ticket, Answer),
    /// So many processes were ended that mine.
    ProcessesEnded(CgroupId, Ticket, Result<usize, Failure>),
}
