//! Whose packets come in by which port of a bridge: containers with a network of their own.
//!
//! Looked up anew whenever an interface comes or goes, a container is identified or gone, and at
//! each tick. The kernel is asked each time, for nothing else is the truth; it takes some
//! microseconds a container.

use super::addresses::Asked;
use super::bridges::Asking;
use super::cgroups::Cgroup;
use super::{Daemon, Shell, Tasks, now};
use crate::act::CpuControl;
use crate::hub::{ContainerCgroup, ContainerFacts, Units, is_other_container};
use crate::report::{Kind, Level, LogEntry};
use cgroup::walk::Budget;
use egress::{Bridges, ClassName, Error, Link, LinkEvents, Links, ServerPort};
use quantities::{CgroupId, CgroupPath};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Processes of a container that are asked for their network; all are in the same one, but for
/// what a privileged one made for itself.
const MOST_PROCESSES: usize = 4;
/// Cgroups of a container that are looked at for these, and for how long: nobody else is served meanwhile.
const MOST_CGROUPS: usize = 1024;
const LOOKED_FOR: Duration = Duration::from_millis(20);

/// What is known of containers' networks.
#[derive(Default)]
pub(super) struct Networks {
    links: Option<Links>,
    /// What engines said, by cgroup.
    notes: BTreeMap<CgroupPath, Note>,
    /// Containers known to be no server when an earlier daemon ended, until they are asked about.
    pub other_containers: BTreeSet<CgroupId>,
    /// From a configured network to its bridge.
    pub bridges: BTreeMap<String, String>,
    /// Containers' ports, as last looked up.
    pub(super) known: Bridges,
    /// Those of containers that are no servers, likewise.
    pub(super) other_ports: BTreeMap<CgroupPath, BTreeSet<u32>>,
    /// What engines are asked of bridges.
    pub asking: Asking,
    trouble: Option<String>,
}

impl Networks {
    /// The addresses of a container on networks of its own.
    pub fn addresses(&self, cgroup: &CgroupPath) -> BTreeSet<IpAddr> {
        let note = self.notes.get(cgroup);
        note.map(|note| note.addresses.clone()).unwrap_or_default()
    }

    pub(super) fn note_of(&mut self, cgroup: &CgroupPath) -> Option<&mut Note> {
        self.notes.get_mut(cgroup)
    }

    /// The same; of one of which nothing was said, that.
    pub(super) fn note_or_none(&mut self, cgroup: &CgroupPath) -> &mut Note {
        self.notes.entry(cgroup.clone()).or_default()
    }

    /// The same of one that is known to be no server.
    pub(super) fn note_of_other(&mut self, cgroup: &CgroupPath) -> &mut Note {
        let note = || Note {
            other_container: true,
            ..Note::default()
        };
        self.notes.entry(cgroup.clone()).or_insert_with(note)
    }

    /// The process that a container was started as, if that is in it still. It is there when its user hides
    /// the others in more cgroups than are looked at.
    fn first_process(&self, cgroup: &CgroupPath) -> Option<u32> {
        let pid = self.notes.get(cgroup)?.first_process?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        is_below(&text, cgroup).then_some(pid)
    }

    /// The ports that this server's packets came by when its processes were last seen, and that are still there.
    fn ports_before<'a>(&self, id: CgroupId, all: &'a [Link]) -> Vec<&'a Link> {
        let was = |link: &&Link| {
            let before = self.known.servers.get(&link.index);
            link.master.is_some() && before.is_some_and(|server| server.cgroup == id)
        };
        all.iter().filter(was).collect()
    }
}

/// Whether what `/proc/PID/cgroup` says is this cgroup or one below it.
fn is_below(text: &str, cgroup: &CgroupPath) -> bool {
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
        return false;
    };
    let own = CgroupPath::new(own);
    let rest = own.as_str().strip_prefix(cgroup.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether no process was found though there may be some: the bound on cgroups or time came first. A
/// container without a port of ours, such as one on the host's network, does not hide.
fn hides(pids: &[u32], searched: bool) -> bool {
    pids.is_empty() && !searched
}

/// That a container's processes are in so many cgroups that its network cannot be looked up.
fn hidden_in_cgroups(cgroup: &CgroupPath, unknown: bool) -> String {
    let so = if unknown {
        "so its packets are treated as those of a container that nobody knows; end it, or have its user remove them"
    } else {
        "so it is taken to be on the network where it was"
    };
    format!("{cgroup} has its processes below more than {MOST_CGROUPS} cgroups, {so}.")
}

/// What an engine said of a container.
#[derive(Default)]
pub(super) struct Note {
    pub(super) addresses: BTreeSet<IpAddr>,
    first_process: Option<u32>,
    other_container: bool,
    pub(super) asked: Asked,
}

/// What a container is to the packet rules.
enum Whose {
    Server { number: u32, class: ClassName },
    OtherContainer,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Tells the packet rules who is behind which port now.
    pub(super) fn follow_containers(&mut self) {
        self.follow_links(Shell::reconcile_network);
    }

    /// Once a tick: the same, and what else the rules depend on.
    pub(super) fn look_after_network(&mut self) {
        self.follow_links(Shell::reconcile_network_if_changed);
    }

    fn follow_links(&mut self, reconcile: fn(&mut Shell)) {
        let shell = &mut self.shell;
        if shell.off || !shell.network.rules.stand() {
            return;
        }
        let followed = shell.network.rules.follow_uplinks();
        shell.log_rules(followed.err());
        shell.look_up_bridges();
        reconcile(shell);
        self.ask_for_addresses();
        self.ask_for_bridges();
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Follows interfaces as they come and go, until the daemon ends.
    pub(super) async fn follow_links(self) {
        let mut events = match LinkEvents::listen() {
            Ok(events) => events,
            Err(error) => {
                return self.post(move |daemon| daemon.shell.network_trouble(&error.to_string()));
            }
        };
        while events.next().await.is_ok() {
            self.turn(Daemon::follow_containers).await;
        }
    }
}

impl Shell {
    /// Notes what an engine said of a container.
    pub(super) fn note_container(&mut self, cgroup: &CgroupPath, facts: &ContainerFacts) {
        if let Some(container) = ContainerCgroup::of(cgroup) {
            self.network.containers.asking.answers(container.engine);
        }
        let before = self.network.containers.notes.get(cgroup);
        // What the hub names as anyone's server is none, be it named twice.
        let listed = ContainerCgroup::of(cgroup)
            .is_some_and(|container| !self.hub.directory.of_container(&container.id).is_empty());
        let note = Note {
            addresses: facts.addresses.clone(),
            first_process: facts.first_process,
            other_container: !listed && is_other_container(facts, &self.config.hub),
            asked: before.map(|note| note.asked.clone()).unwrap_or_default(),
        };
        self.storage.dirty |=
            before.is_none_or(|before| before.other_container != note.other_container);
        self.network.containers.notes.insert(cgroup.clone(), note);
    }

    /// Looks up which containers are behind which ports at this moment.
    pub(super) fn look_up_bridges(&mut self) {
        self.network.containers.known = self.bridges_now();
    }

    /// Containers that are no servers, for the next daemon.
    pub(super) fn other_containers(&self) -> BTreeSet<CgroupId> {
        self.containers()
            .into_iter()
            .filter(|(.., whose)| matches!(whose, Whose::OtherContainer))
            .map(|(_, id, _)| id)
            .collect()
    }

    /// Who is behind which port; on trouble, what was last known.
    fn bridges_now(&mut self) -> Bridges {
        let containers = self.containers();
        if containers.is_empty() && self.config.hub.container_networks.is_empty() {
            self.network.containers.notes.clear();
            self.network.containers.asking.nothing_missing();
            return Bridges::default();
        }
        match self.look_up(&containers) {
            Ok(bridges) => bridges,
            Err(error) => {
                self.network_trouble(&error.to_string());
                self.network.containers.known.clone()
            }
        }
    }

    fn containers(&self) -> Vec<(CgroupPath, CgroupId, Whose)> {
        let mut found = Vec::new();
        for (id, entry) in &self.registry.entries {
            let (cgroup, whose) = match entry {
                Cgroup::Server(guarded) => {
                    let (number, class) = (guarded.number, guarded.class_in_force().clone());
                    (&guarded.cgroup, Whose::Server { number, class })
                }
                Cgroup::Ignored { cgroup, .. } | Cgroup::Pending { cgroup, .. } => {
                    let note = self.network.containers.notes.get(cgroup);
                    let before = || self.network.containers.other_containers.contains(id);
                    if !note.map_or_else(before, |note| note.other_container) {
                        continue;
                    }
                    (cgroup, Whose::OtherContainer)
                }
                Cgroup::UserSlice { .. } => continue,
            };
            if ContainerCgroup::of(cgroup).is_some() {
                found.push((cgroup.clone(), *id, whose));
            }
        }
        found
    }

    fn look_up(&mut self, containers: &[(CgroupPath, CgroupId, Whose)]) -> Result<Bridges, Error> {
        let mut links = match self.network.containers.links.take() {
            Some(links) => links,
            None => Links::open()?,
        };
        let all = links.all()?;
        let mut bridges = Bridges {
            newcomers: Some(self.config.egress.class.clone()),
            ..Bridges::default()
        };
        let (mut missing, mut guarded) = (BTreeSet::new(), BTreeSet::new());
        for network in &self.config.hub.container_networks {
            let name = self
                .network
                .containers
                .bridges
                .get(network)
                .unwrap_or(network);
            // Guarded before it is there: the first packet may come before anybody is told.
            bridges.guarded.insert(name.clone());
            match all.iter().find(|link| link.bridge && link.name == *name) {
                Some(bridge) => {
                    guarded.insert(bridge.index);
                    bridges.gateways.extend(bridge.address);
                }
                None => drop(missing.insert(network.clone())),
            }
        }
        self.network.containers.asking.note(&all, missing, now());
        let mut hidden = Vec::new();
        let (mut others, mut shared) = (Vec::new(), Vec::new());
        for (cgroup, id, whose) in containers {
            let directory = self.root.join(cgroup.as_str().trim_start_matches('/'));
            let (pids, searched) = processes(&directory);
            let hides = hides(&pids, searched);
            let mut found = ports(&mut links, &all, pids)?;
            if found.is_empty() {
                // Those may be in a network that one of them made; or they hide.
                let first = self.network.containers.first_process(cgroup);
                found = ports(&mut links, &all, first.into_iter().collect())?;
                if found.is_empty() {
                    found = self.network.containers.ports_before(*id, &all);
                    hidden.extend(hides.then_some((cgroup, found.is_empty())));
                }
            }
            for port in found {
                let master = all.iter().find(|link| Some(link.index) == port.master);
                let is_guarded = port.master.is_some_and(|bridge| guarded.contains(&bridge));
                if is_guarded {
                    bridges.on_guarded.insert(port.index);
                }
                match whose {
                    Whose::OtherContainer => others.push((port.index, is_guarded, cgroup)),
                    Whose::Server { number, class } => {
                        bridges
                            .gateways
                            .extend(master.and_then(|bridge| bridge.address));
                        let note = self.network.containers.notes.get(cgroup);
                        let addresses = note.map(|note| note.addresses.clone());
                        let server = ServerPort {
                            cgroup: *id,
                            number: *number,
                            class: class.clone(),
                            addresses: addresses.unwrap_or_default(),
                        };
                        let classes = &self.config.egress.classes;
                        if bridges.put(port.index, server, classes).is_some() {
                            shared.push((cgroup, "the stricter of their classes"));
                        }
                    }
                }
            }
        }
        self.network.containers.links = Some(links);
        self.network.containers.other_ports.clear();
        for (port, is_guarded, cgroup) in others {
            if bridges.servers.contains_key(&port) {
                shared.push((cgroup, "the server's class"));
            } else {
                let of_others = &mut self.network.containers.other_ports;
                of_others.entry(cgroup.clone()).or_default().insert(port);
                let note = self.network.containers.notes.get(cgroup).into_iter();
                bridges.others.extend(note.flat_map(|note| &note.addresses));
                bridges.exempt.extend(is_guarded.then_some(port));
            }
        }
        for (cgroup, class) in shared {
            let message = format!(
                "{cgroup} shares a network namespace with a server, so what both send is \
                 judged by {class}."
            );
            self.log_once(LogEntry::new(Kind::Trouble, Level::Warning, message));
        }
        for (cgroup, unknown) in hidden {
            let message = hidden_in_cgroups(cgroup, unknown);
            self.log_once(LogEntry::new(Kind::Trouble, Level::Warning, message));
        }
        let living = |cgroup: &CgroupPath| self.registry.tree.members().contains_key(cgroup);
        self.network
            .containers
            .notes
            .retain(|cgroup, _| living(cgroup));
        Ok(bridges)
    }

    pub(super) fn network_trouble(&mut self, why: &str) {
        if self.network.containers.trouble.as_deref() != Some(why) {
            let message = format!("Containers' networks cannot be told apart, or not all: {why}.");
            self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
            self.network.containers.trouble = Some(why.to_owned());
        }
    }
}

/// The ports of bridges here that lead to where these processes are.
fn ports<'a>(links: &mut Links, all: &'a [Link], pids: Vec<u32>) -> Result<Vec<&'a Link>, Error> {
    let mut networks = BTreeSet::new();
    for pid in pids {
        networks.extend(links.netns_of(pid)?);
    }
    let leads = |link: &&Link| link.peer.is_some_and(|peer| networks.contains(&peer));
    let ports = all.iter().filter(|link| link.master.is_some());
    Ok(ports.filter(leads).collect())
}

/// Some processes of a container, wherever in it they are: crun puts them one cgroup further down. And
/// whether these are all; there are none where it is gone.
fn processes(directory: &Path) -> (Vec<u32>, bool) {
    let budget = Budget::new(MOST_CGROUPS, MOST_PROCESSES, LOOKED_FOR);
    cgroup::walk::processes(directory, budget)
}

#[cfg(test)]
mod tests;
