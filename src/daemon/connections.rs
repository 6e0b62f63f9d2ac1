//! How full the kernel's table of connections is. It is one for the whole node: once it is full, the
//! hub's own new connections fail with everybody else's.

use super::Shell;
use super::cgroups::Cgroup;
use crate::report::{Kind, Level, LogEntry};
use quantities::{CgroupId, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SYSCTLS: &str = "/proc/sys/net/netfilter";
/// Per cent at which it is said that there is little room, and at which that is over.
const LITTLE_ROOM: u64 = 75;
const ROOM_AGAIN: u64 = 50;
/// Senders that are named.
const MOST_NAMED: usize = 3;

/// Entries of the table (Documentation/networking/nf_conntrack-sysctl.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(super) entries: u64,
    pub(super) most: u64,
}

impl Connections {
    /// Those of this network namespace; none where connections are not tracked.
    pub fn read() -> Option<Connections> {
        Connections::read_in(Path::new(SYSCTLS))
    }

    fn read_in(directory: &Path) -> Option<Connections> {
        let number = |name: &str| {
            let text = std::fs::read_to_string(directory.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let (entries, most) = (number("nf_conntrack_count")?, number("nf_conntrack_max")?);
        Some(Connections { entries, most })
    }

    fn percent(self) -> u64 {
        self.entries.saturating_mul(100) / self.most.max(1)
    }

    /// Whether there is little room.
    pub fn are_many(self) -> bool {
        self.percent() >= LITTLE_ROOM
    }

    /// How full it is, in words.
    pub fn in_words(self) -> String {
        format!(
            "{} of {} entries of the kernel's connection table are used ({} %)",
            self.entries,
            self.most,
            self.percent()
        )
    }
}

impl Shell {
    /// Looks whether others have connections tracked: only then the packet rules ask tracking anything, since
    /// that alone has the kernel track all connections, those on loopback too.
    pub(super) fn look_at_tracking(&mut self) {
        self.network.table.tracking = self.network.rules.tracking();
    }

    /// Once a tick: logs that there is little room, with who sends most, and that there is room again.
    pub(super) fn watch_connections(&mut self) {
        self.network.table.filling = self.held_to_their_part();
        self.note_connections(Connections::read());
    }

    /// The users of whom new connections were refused since the last tick, or would have been, for
    /// having as many entries as one sender may.
    fn held_to_their_part(&self) -> BTreeSet<String> {
        let refused = self.network.counters.refused.iter();
        let held = refused.filter(|one| one.entries > 0);
        let user = |one: &egress::Refused| match one.number {
            Some(number) => {
                let id = self.sender(number)?;
                match self.registry.entries.get(&id)? {
                    Cgroup::Server(guarded) => Some(guarded.server.user.as_str().to_owned()),
                    _ => None,
                }
            }
            None => Some("a unit that is not known".to_owned()),
        };
        held.filter_map(user).collect()
    }

    pub(super) fn note_connections(&mut self, now: Option<Connections>) {
        let was_full = self.network.table.connections.is_some();
        let Some(connections) = now else {
            self.network.table.connections = None;
            return;
        };
        let is_full = match was_full {
            true => connections.percent() >= ROOM_AGAIN,
            false => connections.are_many(),
        };
        self.network.table.connections = is_full.then_some(connections);
        let what = connections.in_words();
        let entry = match (was_full, is_full) {
            (false, true) => {
                let who = busiest(&self.network.counters.sent, &self.registry.entries);
                let who = match who.as_slice() {
                    [] => String::new(),
                    who => format!(" Most packets in the last tick: {}.", who.join(", ")),
                };
                let text = format!(
                    "{what}. Once it is full, new connections fail on the whole node, the hub's too.{who} \
                     Look at hubwarden flows; net.netfilter.nf_conntrack_max raises the bound."
                );
                LogEntry::new(Kind::Trouble, Level::Warning, text)
            }
            (true, false) => {
                let text = format!("There is room for connections again: {what}.");
                LogEntry::new(Kind::Trouble, Level::Notice, text)
            }
            _ => return,
        };
        self.log(entry);
    }

    /// What `status` says while there is little room.
    pub(super) fn connections_lack(&self) -> Option<String> {
        let room = self.network.table.connections.map(|connections| {
            format!(
                "{}; once it is full, new connections fail on the whole node, the hub's too",
                connections.in_words()
            )
        });
        let filling: Vec<String> = self
            .network
            .table
            .filling
            .iter()
            .map(|user| quantities::Plain(user).to_string())
            .collect();
        let part = (!filling.is_empty()).then(|| {
            let held = match self.config.mode {
                Mode::Enforce => "are refused new connections",
                Mode::Observe => "would be refused new connections",
            };
            format!(
                "these fill as much of the kernel's connection table as one sender may, and {held}: {}",
                filling.join(", ")
            )
        });
        let both: Vec<String> = room.into_iter().chain(part).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }
}

/// The users whose servers sent most packets since the last reading, with how many, the most first.
fn busiest(
    sent: &BTreeMap<CgroupId, (u64, u64)>,
    entries: &BTreeMap<CgroupId, Cgroup>,
) -> Vec<String> {
    let mut by_user: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, (packets, _)) in sent {
        if let Some(Cgroup::Server(guarded)) = entries.get(id)
            && *packets > 0
        {
            *by_user.entry(guarded.server.user.as_str()).or_default() += packets;
        }
    }
    let mut all: Vec<(&str, u64)> = by_user.into_iter().collect();
    all.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
    let named = all.into_iter().take(MOST_NAMED);
    named
        .map(|(user, packets)| format!("{} ({packets})", quantities::Plain(user)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_read_and_without_them_nothing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Connections::read_in(directory.path()), None);
        for (name, text) in [
            ("nf_conntrack_count", "196608\n"),
            ("nf_conntrack_max", "262144\n"),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let connections = Connections::read_in(directory.path()).unwrap();
        assert!(connections.are_many());
        assert_eq!(
            connections.in_words(),
            "196608 of 262144 entries of the kernel's connection table are used (75 %)"
        );
    }
}
