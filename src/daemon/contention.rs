//! Who else waits for the CPU.
//!
//! The `some` line of `cpu.pressure` tells for how much of the time tasks of a cgroup were ready
//! and not run. That of the other servers and of the hub is asked, only when somebody's verdict
//! depends on it. A server at its own quota waits for its quota and not for the CPU: it is left
//! out.

use super::Inner;
use super::entries::{Entry, Guarded};
use crate::hub::HubUser;
use cgroup::pressure;
use policy::Rung;

/// Units whose waiting counts besides the servers': the hub and its proxy.
const HUB_UNITS: [&str; 2] = ["jupyterhub.service", "traefik.service"];
/// Whoever uses less than this, in cores, does not wait for the CPU so that it matters.
const IDLE: f64 = 0.005;
/// For a server that is held, others count as waiting from this share of the measure on: a
/// pressure near it must not decide otherwise at every tick.
const WHILE_HELD: f64 = 0.5;

/// The two greatest pressures on different users, so that each can be compared with the others.
///
/// By user and not by server: that the many threads of one user's wait for each other, in one
/// place or in several, is nobody else's waiting.
#[derive(Debug, Clone, Default)]
pub(super) struct Contention {
    greatest: Option<(Option<HubUser>, f64)>,
    second: f64,
}

impl Contention {
    /// Whether others than this server's user wait for the CPU by its policy's measure.
    pub(super) fn for_server(&self, guarded: &Guarded) -> bool {
        let others = self.on_others(&guarded.server.user);
        let held = match guarded.case.rung >= Rung::Throttled {
            true => WHILE_HELD,
            false => 1.0,
        };
        guarded
            .policy
            .contended_above
            .is_some_and(|above| others > held * above)
    }

    /// The greatest pressure on anybody but this user.
    fn on_others(&self, user: &HubUser) -> f64 {
        match &self.greatest {
            Some((Some(greatest), _)) if greatest == user => self.second,
            Some((_, pressure)) => *pressure,
            None => 0.0,
        }
    }

    fn add(&mut self, user: Option<&HubUser>, pressure: f64) {
        match &mut self.greatest {
            Some((greatest, known)) if greatest.as_ref() == user => *known = known.max(pressure),
            Some((_, known)) if *known >= pressure => self.second = self.second.max(pressure),
            greatest => {
                self.second = greatest.take().map_or(0.0, |(_, known)| known);
                *greatest = Some((user.cloned(), pressure));
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
            if waits_for_quota || guarded.rate().0 < IDLE {
                continue;
            }
            if let Some(pressure) = guarded.reader.as_ref().and_then(|r| r.cpu_pressure()) {
                contention.add(Some(&guarded.server.user), pressure);
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

    fn user(name: &str) -> HubUser {
        HubUser(name.to_owned())
    }

    #[test]
    fn a_user_is_compared_with_the_others_only() {
        let mut contention = Contention::default();
        assert_eq!(contention.on_others(&user("alice")), 0.0);
        for (name, pressure) in [("alice", 0.2), ("bob", 0.6), ("alice", 0.3)] {
            contention.add(Some(&user(name)), pressure);
        }
        contention.add(None, 0.1);
        assert_eq!(contention.on_others(&user("alice")), 0.6);
        assert_eq!(contention.on_others(&user("bob")), 0.3);
        assert_eq!(contention.on_others(&user("carol")), 0.6);
    }

    #[test]
    fn a_user_s_other_places_are_not_others() {
        let mut contention = Contention::default();
        for pressure in [0.5, 0.9, 0.7] {
            contention.add(Some(&user("alice")), pressure);
        }
        contention.add(None, 0.05);
        assert_eq!(contention.on_others(&user("alice")), 0.05);
        assert_eq!(contention.on_others(&user("bob")), 0.9);
    }
}
