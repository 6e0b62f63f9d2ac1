//! From the processes of one place to what it lacks.

use super::location::{USER_SLICE, container_of};
use super::remedy::{is_service, template};
use super::{
    Engine, Facts, Known, ListedAt, Location, LocationKind, Looks, Manager, Membership, Missing,
    Network, Process, Watch, Who, network,
};
use quantities::HubUser;
use std::collections::BTreeSet;

/// Services whose jobs run at set times, in the service's own cgroup.
const TIMED: [&str; 3] = ["cron.service", "crond.service", "atd.service"];

/// What is known of the processes of one place.
pub(super) struct Group<'a> {
    pub place: Location,
    pub known: Option<&'a Known>,
    pub layout: Layout,
    /// Processes that make it count, and those that are a server by their arguments.
    pub processes: usize,
    pub servers: usize,
    /// Users by facts: by their uid, by the server they come from.
    pub users: BTreeSet<HubUser>,
    /// Users in the hub's own words.
    pub listed: BTreeSet<HubUser>,
    /// Others, and by their own word who they are.
    pub others: BTreeSet<(u32, Option<String>)>,
    /// Uids that a hub runs as.
    pub hubs: BTreeSet<u32>,
    /// Uids whose processes could not be read.
    pub unread: BTreeSet<u32>,
    /// What made it count besides a uid.
    pub looks_like_one: bool,
    pub on_host: bool,
    pub namespaces: BTreeSet<u64>,
    /// A process is in a container of an engine that runs in a login slice.
    pub rootless: bool,
}

/// The worst layout that a process of the place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    Unified,
    Hybrid,
    V1,
}

impl<'a> Group<'a> {
    pub fn new(place: Location, known: Option<&'a Known>) -> Group<'a> {
        Group {
            place,
            known,
            layout: Layout::Unified,
            processes: 0,
            servers: 0,
            users: BTreeSet::new(),
            listed: BTreeSet::new(),
            others: BTreeSet::new(),
            hubs: BTreeSet::new(),
            unread: BTreeSet::new(),
            looks_like_one: false,
            on_host: false,
            namespaces: BTreeSet::new(),
            rootless: false,
        }
    }

    /// Takes in a process. `from` is the server that it descends from, with its user where that is known.
    pub fn add(&mut self, process: &Process, from: Option<Option<HubUser>>, watch: &Watch) {
        self.layout = self.layout.max(match process.cgroup {
            Membership::Unified(_) => Layout::Unified,
            Membership::Hybrid(_) => Layout::Hybrid,
            Membership::V1(_) => Layout::V1,
        });
        match process.network {
            Network::Host => self.on_host = true,
            Network::Other(inode) => drop(self.namespaces.insert(inode)),
            Network::Unknown => {}
        }
        if process.unread {
            self.unread.insert(process.uid);
        }
        let said = process.said.clone().unwrap_or_default();
        if said.looks == Some(Looks::Hub) {
            self.hubs.insert(process.uid);
        }
        let server = said.looks == Some(Looks::Server);
        let of_uid = watch.uids.get(&process.uid);
        if !(server || said.environment || from.is_some() || of_uid.is_some()) {
            return;
        }
        self.processes += 1;
        self.looks_like_one |= server || said.environment || from.is_some();
        // A server that another one started is a part of that.
        self.servers += usize::from(server && !matches!(from, Some(None)));
        let mut parts = process.cgroup.path().as_str().split('/');
        self.rootless |= parts.any(|name| container_of(name).is_some());
        match of_uid.cloned().or(from.flatten()) {
            Some(user) => drop(self.users.insert(user)),
            None => drop(self.others.insert((process.uid, said.user))),
        }
    }

    /// What the place lacks; nothing where it is covered, or no matter of the hub's.
    pub fn missing(&self, facts: &Facts, watch: &Watch, other_hub: bool) -> Vec<Missing> {
        let mut all = Vec::new();
        if !self.hubs.is_empty() && self.is_other_hub(watch) {
            all.push(Missing::OtherHub { second: other_hub });
        }
        let counts = self.processes > 0 || !self.listed.is_empty();
        let missing = match self.known {
            Some(Known::Server { .. } | Known::Expected) => {
                all.extend(self.of_covered(facts, watch));
                None
            }
            Some(Known::Unmapped { why }) if counts || !self.is_container() => {
                let why = why.clone();
                Some(Missing::Unmapped { why })
            }
            Some(Known::Pending { why: Some(why) }) if counts || !self.is_container() => {
                let why = why.clone();
                Some(Missing::Pending { why })
            }
            Some(Known::Pending { .. }) => None,
            _ if !counts => self.unreadable(),
            Some(Known::NotAServer) => self.looks_like_one.then_some(Missing::UnitFile),
            _ => Some(self.unwatched(facts, watch)),
        };
        all.extend(missing);
        all
    }

    fn is_container(&self) -> bool {
        matches!(self.place.kind, LocationKind::Container(..))
    }

    fn unreadable(&self) -> Option<Missing> {
        self.held_up().next().map(|_| Missing::Unread)
    }

    /// Uids whose processes hold up readers. What root runs is an admin's, but for a container's root.
    fn held_up(&self) -> impl Iterator<Item = u32> {
        let container = self.is_container();
        let users = self.unread.iter().copied();
        users.filter(move |uid| *uid != 0 || container)
    }

    /// A hub in a container is asked for its servers by the engine; one in a user's server is the user's.
    fn is_other_hub(&self, watch: &Watch) -> bool {
        let mapped = matches!(self.known, Some(Known::Server { .. }));
        !mapped && !self.is_container() && !watch.is_hubs(&self.place)
    }

    /// What a server that is known, or expected, lacks of limits and of packet rules.
    fn of_covered(&self, facts: &Facts, watch: &Watch) -> Vec<Missing> {
        let hub = !self.hubs.is_empty();
        let (port, cpu, packets) = match self.known {
            Some(Known::Server {
                port, cpu, packets, ..
            }) => (*port, cpu.clone(), packets.clone()),
            // The configuration alone does not say whether the login's user has a server. With a hub in
            // it, its servers are not in cgroups of their own.
            _ if matches!(self.place.kind, LocationKind::Login { .. }) => {
                let lacks = hub && self.looks_like_one;
                return lacks.then(|| self.of_login()).into_iter().collect();
            }
            _ if hub && self.looks_like_one => return vec![Missing::HubsCgroup],
            _ => (false, None, None),
        };
        let limits = match self.layout {
            Layout::V1 => return vec![Missing::CgroupV1],
            Layout::Hybrid => Some(Missing::CpuOnV1),
            Layout::Unified => cpu.map(|why| Missing::Cpu { why }),
        };
        let rules = network::missing(self, port, facts, watch);
        let rules = rules.or_else(|| packets.map(|why| Missing::Packets { why }));
        limits.into_iter().chain(rules).collect()
    }

    fn of_login(&self) -> Missing {
        match self.rootless {
            true => Missing::Rootless,
            false => Missing::Login,
        }
    }

    fn unwatched(&self, facts: &Facts, watch: &Watch) -> Missing {
        if self.layout == Layout::V1 {
            return Missing::CgroupV1;
        }
        if self.looks_like_one && (watch.is_hubs(&self.place) || !self.hubs.is_empty()) {
            match self.place.kind {
                LocationKind::Login { .. } => {}
                _ => return Missing::HubsCgroup,
            }
        }
        match &self.place.kind {
            LocationKind::Login { .. } => self.of_login(),
            LocationKind::Container(engine, _) => self.container(*engine, watch),
            LocationKind::Unit => self.unit(facts, watch),
            LocationKind::Other => Missing::OtherManager(manager(&self.place)),
            LocationKind::Bare => Missing::NoUnit,
        }
    }

    fn container(&self, engine: Engine, watch: &Watch) -> Missing {
        let on = match engine {
            Engine::Docker => watch.naming.docker,
            Engine::Podman => watch.naming.podman,
        };
        if !on {
            return Missing::EngineOff(engine);
        }
        let parent = self.place.parent();
        // `a-b.slice` is what an admin writes for the path of nested slices (systemd.slice(5)).
        let name = parent.name();
        let in_slices = parent
            .as_str()
            .split('/')
            .all(|part| part.ends_with(".slice"));
        let parent = match in_slices && !parent.as_str().is_empty() {
            true => name.to_owned(),
            false => parent.to_string(),
        };
        Missing::ContainerParent { parent }
    }

    fn unit(&self, facts: &Facts, watch: &Watch) -> Missing {
        let unit = self.place.cgroup.name();
        let known_manager = manager(&self.place);
        if known_manager != Manager::Unknown {
            return Missing::OtherManager(known_manager);
        }
        if !self.looks_like_one && self.listed.is_empty() {
            let timed = TIMED.contains(&unit);
            return Missing::OutsideServer { timed };
        }
        if self.place.cgroup.level() < 2 {
            return Missing::NoUnit;
        }
        if facts.unit_files.contains(unit) {
            return Missing::UnitFile;
        }
        match self.place.top_slice() {
            Some(slice) if slice == watch.naming.slice => Missing::Pending {
                why: "the daemon has not looked at it yet".to_owned(),
            },
            Some(slice) if slice != USER_SLICE && is_service(unit) => {
                self.unit_name(unit, facts, watch)
            }
            _ => Missing::OtherManager(Manager::Unknown),
        }
    }

    fn unit_name(&self, unit: &str, facts: &Facts, watch: &Watch) -> Missing {
        let known = self.listed.iter().chain(&self.users).map(HubUser::as_str);
        let accounts = self
            .others
            .iter()
            .filter_map(|(uid, _)| facts.accounts.get(uid));
        let accounts = accounts.map(|name| name.strip_prefix("jupyter-").unwrap_or(name));
        let template = template(unit, known.chain(accounts));
        match template {
            Some(template) if watch.naming.unit_names.contains(&template) => Missing::Pending {
                why: "the daemon has not looked at it yet".to_owned(),
            },
            template => Missing::UnitName { template },
        }
    }

    /// Who is there, known users first.
    pub fn who(&self, missing: &Missing, facts: &Facts) -> Vec<Who> {
        let uid = |uid: u32, says: Option<String>| Who::Uid {
            uid,
            account: facts.accounts.get(&uid).cloned(),
            says,
        };
        match missing {
            Missing::OtherHub { .. } => {
                return self.hubs.iter().map(|one| uid(*one, None)).collect();
            }
            Missing::Unread => return self.held_up().map(|one| uid(one, None)).collect(),
            _ => {}
        }
        let mut all: Vec<Who> = match self.known {
            Some(Known::Server { user, .. }) => vec![Who::User(user.clone())],
            _ => {
                let users = self.users.union(&self.listed);
                users.cloned().map(Who::User).collect()
            }
        };
        // What the hub lists there has one user.
        if self.listed.is_empty() && !matches!(self.known, Some(Known::Server { .. })) {
            let others = self.others.iter();
            all.extend(others.map(|(number, says)| uid(*number, says.clone())));
        }
        all
    }

    /// As the hub or an engine would list a server that runs here.
    pub fn listed_as(&self) -> Option<ListedAt> {
        match &self.place.kind {
            LocationKind::Unit => Some(ListedAt::Unit(self.place.cgroup.name().to_owned())),
            LocationKind::Container(_, id) => Some(ListedAt::Container(id.clone())),
            _ => None,
        }
    }
}

/// The program that made a cgroup that neither systemd nor an engine did.
fn manager(place: &Location) -> Manager {
    let path = place.cgroup.as_str();
    let name = place.cgroup.name();
    let top = path.split('/').next().unwrap_or_default();
    let begins = |prefixes: &[&str], text: &str| prefixes.iter().any(|one| text.starts_with(one));
    if begins(&["kubepods"], top) || begins(&["crio-", "cri-containerd-"], name) {
        Manager::Kubernetes
    } else if begins(&["lxc", ".lxc"], top) {
        Manager::Lxc
    } else if top == "machine.slice" && begins(&["systemd-nspawn@", "machine-", "libvirt-"], name) {
        Manager::Machined
    } else if begins(&["slurm"], name) || begins(&["slurm"], top) {
        Manager::Slurm
    } else {
        Manager::Unknown
    }
}
