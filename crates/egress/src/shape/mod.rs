//! Shaping: what a server sends too fast is delayed, not dropped.
//!
//! The queue of an interface is its admin's, and is not touched. Packets of shaped servers make a
//! detour: a rule where an interface sends (`netdev`, hook `egress`) moves them to a device of our
//! own, one end of a pair, whose queue is HTB with a class for each server; at the pair's other end
//! a rule moves them back to the interface, where they are sent like any other packet, by whatever
//! queue it has. Which class a packet belongs to is its priority, which a map of servers gives it.
//! Passing the pair takes the priority off, so nothing goes round twice.
//!
//! Interfaces are those that a default route leads to, of Ethernet. What leaves by others is policed,
//! and so is everything on kernels that cannot do this (the hook came with 5.16).
//! `docs/egress-table.md` shows the rules.

mod devices;
mod rules;
mod shaper;

use std::collections::{BTreeMap, BTreeSet};

pub use rules::{elements, fill, queue_it, ruleset, sets};
pub use shaper::Shaper;

use super::{BitsPerSecond, Class, Mode, Policy, senders::Known};

/// The major number of our queue and its classes ("HW" in ASCII); the minor one is a server's.
pub const MAJOR: u32 = 0x4857_0000;
/// The bits of a priority that say it is one of our classes.
const MAJOR_MASK: u32 = 0xffff_0000;

/// Whether what servers of a class send is shaped.
pub fn shapes(policy: &Policy, class: &Class) -> bool {
    policy.mode == Mode::Enforce && !class.unrestricted && class.limits.shaped().is_some()
}

/// Whether any class is shaped.
pub fn is_used(policy: &Policy) -> bool {
    policy.classes.values().any(|class| shapes(policy, class))
}

/// What stands: the detours and the servers' queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaping {
    /// One for each interface that packets leave by.
    pub detours: Vec<Detour>,
    /// By sender.
    pub queues: BTreeMap<Sender, Queue>,
}

/// Who has a queue: what it is known by, and that.
pub type Sender = (Known, Vec<u8>);

/// An interface and the pair of devices that its packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The interface.
    pub uplink: Device,
    /// The end whose queue is ours.
    pub queue: Device,
    /// The end where packets come out.
    pub back: Device,
}

/// An interface by index and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// A server's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its class's minor number.
    pub minor: u16,
    /// How fast it empties, on each interface.
    pub rate: BitsPerSecond,
}

impl Queue {
    /// The class, `major:minor`.
    pub fn class(self) -> u32 {
        MAJOR | u32::from(self.minor)
    }
}

/// The queues of these servers: whoever had one keeps it. There are 65,535; who finds none free has
/// none, and is policed.
pub fn assign(
    before: &BTreeMap<Sender, Queue>,
    wanted: &BTreeMap<Sender, BitsPerSecond>,
) -> BTreeMap<Sender, Queue> {
    let kept = |sender| before.get(sender).map(|queue| queue.minor);
    let taken: BTreeSet<u16> = wanted.keys().filter_map(kept).collect();
    let mut free = (1..=u16::MAX).filter(|minor| !taken.contains(minor));
    let mut queues = BTreeMap::new();
    for (sender, rate) in wanted {
        if let Some(minor) = kept(sender).or_else(|| free.next()) {
            queues.insert(sender.clone(), Queue { minor, rate: *rate });
        }
    }
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In an order that shows.
    fn sender(uid: u32) -> Sender {
        (Known::Uid, uid.to_be_bytes().to_vec())
    }

    #[test]
    fn a_server_keeps_its_queue_and_a_free_one_is_used_again() {
        let rate = BitsPerSecond(1_000_000);
        let wanted = |uids: &[u32]| uids.iter().map(|uid| (sender(*uid), rate)).collect();
        let first = assign(&BTreeMap::new(), &wanted(&[70_000, 80_000, 90_000]));
        let minors = |queues: &BTreeMap<Sender, Queue>| -> Vec<(u32, u16)> {
            let minor = |((_, key), queue): (&Sender, &Queue)| {
                let uid = u32::from_be_bytes(key[..].try_into().unwrap());
                (uid, queue.minor)
            };
            queues.iter().map(minor).collect()
        };
        assert_eq!(minors(&first), [(70_000, 1), (80_000, 2), (90_000, 3)]);
        let second = assign(&first, &wanted(&[5, 80_000, 90_000]));
        assert_eq!(minors(&second), [(5, 1), (80_000, 2), (90_000, 3)]);
        assert_eq!(second[&sender(90_000)].class(), 0x4857_0003);
    }

    #[test]
    fn more_servers_than_there_are_queues_leaves_the_rest_without() {
        let all = (1..=70_000)
            .map(|uid| (sender(uid), BitsPerSecond(1)))
            .collect();
        let queues = assign(&BTreeMap::new(), &all);
        assert_eq!(queues.len(), 65_535);
        let minors: BTreeSet<u16> = queues.values().map(|queue| queue.minor).collect();
        assert_eq!(minors.len(), 65_535);
        assert!(!minors.contains(&0), "that is the queue itself");
    }
}
