//! Who else waits for the CPU.
//!
//! The `some` line of `cpu.pressure` tells for how much of the time tasks of a cgroup were ready
//! and not run. That of the other users and of the hub is asked, only when a verdict depends on
//! it. A server at its own quota waits for its quota and not for the CPU: it is left out.

use super::{Accounts, Place};
use policy::Stage;
use quantities::{CgroupId, HubUser};

/// Use below this, in cores, does not wait for the CPU so that it matters.
const IDLE: f64 = 0.005;
/// For a server that is held, others count as waiting from this share of the measure on: a
/// pressure near it must not decide otherwise at every tick.
const WHILE_HELD: f64 = 0.5;

/// The two greatest pressures on different users, so that each can be compared with the others.
///
/// By user and not by server: that the many threads of one user wait for each other, in one place
/// or in several, is no other user's waiting.
#[derive(Debug, Clone, Default)]
pub struct Contention {
    greatest: Option<(Option<HubUser>, f64)>,
    second: f64,
}

impl Contention {
    /// Adds the pressure on a user's place, or without a user on the hub; 0.0 to 1.0.
    pub fn add(&mut self, user: Option<&HubUser>, pressure: f64) {
        match &mut self.greatest {
            Some((greatest, known)) if greatest.as_ref() == user => *known = known.max(pressure),
            Some((_, known)) if *known >= pressure => self.second = self.second.max(pressure),
            greatest => {
                self.second = greatest.take().map_or(0.0, |(_, known)| known);
                *greatest = Some((user.cloned(), pressure));
            }
        }
    }

    /// Whether others than this place's user wait for the CPU by its policy's measure.
    pub(super) fn for_place(&self, place: &Place) -> bool {
        let others = self.on_others(&place.user);
        let held = match place.is_throttled() {
            true => WHILE_HELD,
            false => 1.0,
        };
        place
            .policy
            .contended_above
            .is_some_and(|above| others > held * above)
    }

    fn on_others(&self, user: &HubUser) -> f64 {
        match &self.greatest {
            Some((Some(greatest), _)) if greatest == user => self.second,
            Some((_, pressure)) => *pressure,
            None => 0.0,
        }
    }
}

impl Accounts {
    /// Whether a verdict depends on who else waits for the CPU.
    pub fn asks_for_pressure(&self) -> bool {
        let depends = |place: &Place| {
            place.policy.contended_above.is_some() && place.standing.stage > Stage::Free
        };
        self.places.values().any(|place| depends(place))
    }

    /// The places that count as waiting for the CPU, with their users.
    pub fn may_wait(&self) -> impl Iterator<Item = (CgroupId, &HubUser)> {
        let counts = |place: &Place| {
            let waits_for_quota = place.at_its_quota || place.is_throttled();
            !waits_for_quota && place.rate().0 >= IDLE
        };
        self.places()
            .filter(move |(_, place)| counts(place))
            .map(|(id, place)| (id, &place.user))
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
