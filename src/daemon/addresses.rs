//! Asking engines for containers' addresses: they know these only once a network is made, which may be a
//! moment after its port is there, and a container is connected to other networks while it runs.

use super::cgroups::Cgroup;
use super::containers::Note;
use super::{Daemon, Shell, Tasks};
use crate::act::CpuControl;
use crate::hub::{ContainerCgroup, Units, container_facts};
use quantities::{CgroupId, CgroupPath};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// An engine is asked again after this, for as many times; then at the next change.
const AGAIN: Duration = Duration::from_millis(200);
const MOST: u32 = 25;
/// As many at least after a change: the first answer may be of before it.
const LEAST: u32 = 2;

/// How far it has come with one container.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// The ports that were there when it was looked at last.
    ports: BTreeSet<u32>,
    times: u32,
    under_way: bool,
}

impl Asked {
    /// Whether an engine is to be asked, and after how long.
    fn begin(&mut self, ports: &BTreeSet<u32>, addresses: &BTreeSet<IpAddr>) -> Option<Duration> {
        // Each network gives one of a family, or of both.
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        let known = v4.max(addresses.len() - v4) >= ports.len();
        if self.ports != *ports {
            let first = std::mem::replace(&mut self.ports, ports.clone()).is_empty();
            // What was said before the first port was seen is of that one.
            self.times = if first && known { LEAST } else { 0 };
        }
        let wanted = self.times < LEAST || (!known && self.times < MOST);
        if self.under_way || !wanted {
            return None;
        }
        self.under_way = true;
        self.times += 1;
        Some(if self.times == 1 {
            Duration::ZERO
        } else {
            AGAIN
        })
    }

    /// It was asked, with whatever result.
    fn end(&mut self) {
        self.under_way = false;
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Asks engines for the addresses of containers with other ports than before: a server may send from its
    /// own, and another is known again by them while no daemon runs.
    pub(super) fn ask_for_addresses(&mut self) {
        for (cgroup, wait) in self.shell.addresses_wanted() {
            self.tasks
                .begin(|tasks| tasks.ask_for_addresses(cgroup, wait));
        }
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    async fn ask_for_addresses(self, cgroup: CgroupPath, wait: Duration) {
        tokio::time::sleep(wait).await;
        let hub = self.turn(|daemon| daemon.shell.config.hub.clone()).await;
        let Some(container) = ContainerCgroup::of(&cgroup) else {
            return;
        };
        let facts = container_facts(&container, &hub).await;
        self.post(move |daemon| {
            if let Some(note) = daemon.shell.network.containers.note_of(&cgroup) {
                note.asked.end();
            }
            if let Ok(facts) = facts {
                daemon.shell.note_container(&cgroup, &facts);
            }
            daemon.follow_containers();
        });
    }
}

impl Shell {
    /// Of which containers an engine is to be asked, and after how long.
    fn addresses_wanted(&mut self) -> Vec<(CgroupPath, Duration)> {
        let mut ports: BTreeMap<CgroupId, BTreeSet<u32>> = BTreeMap::new();
        for (port, server) in &self.network.containers.known.servers {
            ports.entry(server.cgroup).or_default().insert(*port);
        }
        let mut wanted = Vec::new();
        for (id, ports) in ports {
            let Some(Cgroup::Server(guarded)) = self.registry.entries.get(&id) else {
                continue;
            };
            let note = self.network.containers.note_or_none(&guarded.cgroup);
            let Note {
                addresses, asked, ..
            } = note;
            let wait = asked.begin(&ports, addresses);
            wanted.extend(wait.map(|wait| (guarded.cgroup.clone(), wait)));
        }
        let containers = &mut self.network.containers;
        for (cgroup, ports) in containers.other_ports.clone() {
            let Note {
                addresses, asked, ..
            } = containers.note_of_other(&cgroup);
            let wait = asked.begin(&ports, addresses);
            wanted.extend(wait.map(|wait| (cgroup, wait)));
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter()
            .map(|address| address.parse().unwrap())
            .collect()
    }

    /// How often an engine is asked that says this.
    fn times(asked: &mut Asked, ports: &[u32], says: &[&str]) -> usize {
        let (ports, says) = (ports.iter().copied().collect(), addresses(says));
        let mut times = 0;
        while asked.begin(&ports, &says).is_some() {
            assert_eq!(asked.begin(&ports, &says), None, "it is under way");
            asked.end();
            times += 1;
        }
        times
    }

    #[test]
    fn an_engine_is_asked_until_it_knows_and_again_when_a_network_comes_or_goes() {
        let mut asked = Asked::default();
        assert_eq!(times(&mut asked, &[5], &["172.18.0.3"]), 0);
        // Connected to another one, of which the engine does not say anything yet.
        let ports: BTreeSet<u32> = [5, 7].into();
        assert_eq!(
            asked.begin(&ports, &addresses(&["172.18.0.3"])),
            Some(Duration::ZERO)
        );
        asked.end();
        assert_eq!(
            asked.begin(&ports, &addresses(&["172.18.0.3"])),
            Some(AGAIN)
        );
        asked.end();
        assert_eq!(times(&mut asked, &[5, 7], &["172.18.0.3", "172.19.0.2"]), 0);
        // Taken from the first, and connected to it again: with another address perhaps.
        assert_eq!(times(&mut asked, &[7], &["172.19.0.2"]), LEAST as usize);
        assert_eq!(
            times(&mut asked, &[7, 9], &["172.18.0.4", "172.19.0.2"]),
            LEAST as usize
        );
    }

    #[test]
    fn one_that_never_says_is_asked_so_often_and_no_more() {
        let mut asked = Asked::default();
        assert_eq!(times(&mut asked, &[5], &[]), MOST as usize);
        assert_eq!(times(&mut asked, &[5], &[]), 0);
        // Both families of one network are one network.
        let mut asked = Asked::default();
        assert_eq!(
            times(&mut asked, &[5, 7], &["172.18.0.3", "fd00::3"]),
            MOST as usize
        );
    }
}
