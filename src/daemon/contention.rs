//! Who else waits for the CPU.
//!
//! The `some` line of `cpu.pressure` tells for how much of the time tasks of a cgroup were ready
//! and not run. That of the other servers and of the hub is asked, only when somebody's verdict
//! depends on it. A server at its own quota waits for its quota and not for the CPU: it is left
//! out.

use super::Inner;
use super::entries::{Entry, Guarded};
use crate::cgroup::{CgroupId, pressure};
use crate::judge::Rung;

/// Units whose waiting counts besides the servers': the hub and its proxy.
const HUB_UNITS: [&str; 2] = ["jupyterhub.service", "traefik.service"];

/// The two greatest pressures, so that each server can be compared with the others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Contention {
    greatest: Option<(Option<CgroupId>, f64)>,
    second: f64,
}

impl Contention {
    /// Whether others than this server wait for the CPU by its policy's measure.
    pub(super) fn for_server(&self, id: CgroupId, guarded: &Guarded) -> bool {
        let others = match self.greatest {
            Some((Some(greatest), _)) if greatest == id => self.second,
            Some((_, pressure)) => pressure,
            None => return false,
        };
        guarded
            .policy
            .contended_above
            .is_some_and(|above| others > above)
    }

    fn add(&mut self, id: Option<CgroupId>, pressure: f64) {
        match self.greatest {
            Some((_, greatest)) if greatest >= pressure => {
                self.second = self.second.max(pressure);
            }
            greatest => {
                self.second = greatest.map_or(0.0, |(_, pressure)| pressure);
                self.greatest = Some((id, pressure));
            }
        }
    }
}

impl Inner {
    /// The pressure on everybody, read only if a server's fate depends on it.
    pub(super) fn contention(&self) -> Contention {
        let mut contention = Contention::default();
        let guarded = || {
            self.entries.values().filter_map(|entry| match entry {
                Entry::Guarded(guarded) => Some(guarded),
                _ => None,
            })
        };
        let depends = |guarded: &Guarded| {
            guarded.policy.contended_above.is_some() && guarded.case.rung > Rung::Free
        };
        if self.off || !guarded().any(|guarded| depends(guarded)) {
            return contention;
        }
        for guarded in guarded() {
            let waits_for_quota = guarded.at_its_quota || guarded.case.rung >= Rung::Throttled;
            let idle = guarded.case.credits.rate.0 < 0.005;
            if waits_for_quota || idle {
                continue;
            }
            if let Some(pressure) = guarded.reader.as_ref().and_then(|r| r.cpu_pressure()) {
                contention.add(Some(guarded.id), pressure);
            }
        }
        for unit in HUB_UNITS {
            let directory = self.root.join("system.slice").join(unit);
            if let Some(pressure) = pressure(&directory) {
                contention.add(None, pressure);
            }
        }
        contention
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_compared_with_the_others_only() {
        let mut contention = Contention::default();
        contention.add(Some(CgroupId(1)), 0.2);
        contention.add(Some(CgroupId(2)), 0.6);
        contention.add(None, 0.1);
        assert_eq!(contention.greatest, Some((Some(CgroupId(2)), 0.6)));
        assert_eq!(contention.second, 0.2);
    }
}
