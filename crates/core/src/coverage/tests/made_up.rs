//! A node that a test makes up.

use crate::coverage::*;
use quantities::{CgroupPath, HubUser};

pub const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[derive(Debug)]
pub struct Node {
    pub facts: Facts,
    pub watch: Watch,
}

impl Node {
    pub fn new() -> Node {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Node {
            facts: Facts::default(),
            watch: Watch {
                known: Default::default(),
                uids: Default::default(),
                listed: Vec::new(),
                naming: Naming {
                    slice: "jupyter.slice".into(),
                    unit_names: texts(&["jupyter-{USERNAME}"]),
                    hub_units: texts(&["jupyterhub.service"]),
                    container_parents: Vec::new(),
                    docker: true,
                    podman: true,
                    api: false,
                    uid_rules: true,
                    levels: 2..=3,
                },
            },
        }
    }

    /// A process of uid 1001 that says nothing.
    pub fn process(mut self, cgroup: &str) -> Node {
        let pid = self.facts.processes.len() as u32 + 10;
        self.facts.processes.push(Process {
            pid,
            parent: None,
            uid: 1001,
            cgroup: Membership::Unified(CgroupPath::new(cgroup)),
            network: Network::Host,
            said: Some(Said::default()),
            unread: false,
        });
        self
    }

    /// Changes the process that was added last.
    pub fn with(mut self, change: impl FnOnce(&mut Process)) -> Node {
        change(self.facts.processes.last_mut().unwrap());
        self
    }

    pub fn server(self, cgroup: &str) -> Node {
        self.process(cgroup)
            .with(|process| process.said = Some(says(Looks::Server)))
    }

    pub fn hub(self, cgroup: &str) -> Node {
        let hub = |process: &mut Process| (process.uid, process.said) = (0, Some(says(Looks::Hub)));
        self.process(cgroup).with(hub)
    }

    pub fn known(mut self, cgroup: &str, known: Known) -> Node {
        self.watch.known.insert(CgroupPath::new(cgroup), known);
        self
    }

    pub fn account(mut self, uid: u32, name: &str) -> Node {
        self.facts.accounts.insert(uid, name.to_owned());
        self
    }

    pub fn listed(mut self, user: &str, place: ListedAt) -> Node {
        let user = HubUser(user.into());
        self.watch.listed.push(Listed { user, place });
        self
    }

    pub fn naming(mut self, change: impl FnOnce(&mut Naming)) -> Node {
        change(&mut self.watch.naming);
        self
    }

    pub fn survey(&self) -> Survey {
        survey(&self.facts, &self.watch)
    }

    /// Each row's kind.
    pub fn kinds(&self) -> Vec<&'static str> {
        let rows = self.survey().rows;
        rows.iter().map(|row| row.missing.kind()).collect()
    }

    /// The only line.
    pub fn line(&self) -> String {
        let lines = lines(&self.survey().rows, true);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].text.clone()
    }
}

pub fn says(looks: Looks) -> Said {
    Said {
        looks: Some(looks),
        ..Said::default()
    }
}

pub fn of(user: &str) -> Known {
    Known::Server {
        user: HubUser(user.into()),
        port: false,
        cpu: None,
        packets: None,
    }
}
