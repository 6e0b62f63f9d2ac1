//! Who is brought about after another: a place that gets more of its user's baseline waits for those that
//! lose some, so that together they never have more. Users do not wait for each other.

use super::{Effect, Node};
use quantities::{CgroupId, HubUser, Time};
use std::collections::{BTreeMap, VecDeque};

/// The places of each user that have a turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<HubUser, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose turn it is.
    turn: Option<CgroupId>,
    next: VecDeque<CgroupId>,
}

impl Node {
    /// Has these take turns, each after its user's others.
    pub(super) fn queue(&mut self, ids: Vec<CgroupId>) {
        for id in ids {
            if let Some(place) = self.accounts.place(id) {
                let queue = self.turns.waiting.entry(place.user().clone()).or_default();
                queue.next.push_back(id);
            }
        }
    }

    /// Begins with those whose turn has come, since the one before is done or gone.
    pub(super) fn take_turns(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.turns.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.turns.waiting);
        waiting.retain(|_, queue| {
            while !queue.turn.is_some_and(|id| self.is_busy(&[id])) {
                queue.turn = queue.next.pop_front();
                match queue.turn {
                    Some(id) => self.wake(id, now, effects),
                    None => return false,
                }
            }
            true
        });
        self.turns.waiting = waiting;
    }
}
