//! Made-up units, limits and records, for tests of this crate and of the daemon (feature
//! `test-support`).

use crate::undo::{Fragment, Owner, Start, Undo};
use policy::Controls;
use quantities::{Cores, UnitName};
use std::time::Duration;

/// systemd owns this unit.
pub fn unit(name: &str) -> Owner {
    Owner::Systemd(UnitName(name.to_owned()), None)
}

/// A life of a unit; each number is another.
pub fn life(number: u64) -> Start {
    Start(Some(Fragment {
        inode: number,
        seconds: 0,
        nanoseconds: 0,
    }))
}

/// This quota, and no other limit.
pub fn quota(cores: f64) -> Controls {
    Controls {
        quota: Some(Cores(cores)),
        ..Controls::default()
    }
}

/// Limits of ours that owners do not set.
pub fn throttled() -> Controls {
    Controls {
        period: Some(Duration::from_millis(20)),
        weight: Some(20),
        ..quota(0.25)
    }
}

/// The record of a server of which nothing is changed yet, and on which this is found.
pub fn record(found: Controls) -> Undo {
    Undo::new(unit("jupyter-alice.service"), Start::default(), found)
}
