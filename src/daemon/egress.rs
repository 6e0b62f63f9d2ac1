//! Egress as the daemon drives it: the table loaded, servers in and out of it.

use super::Inner;
use super::entries::Entry;
use super::resolvers::resolvers;
use crate::hub::Server;
use crate::report::{Entry as Told, Kind, Level};
use egress::lists::{List, Lists};
use egress::{Admitted, Error, Policy};
use quantities::CgroupId;
use quantities::Mode;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

impl Inner {
    /// Replaces the whole table by what it should be now.
    pub(super) fn load_egress(&mut self) {
        let resolvers = resolvers(&self.config.egress);
        let relays = self.relays();
        let lists = &self.lists;
        let policy = policy(
            self.config.mode,
            &self.config,
            &resolvers,
            &relays,
            lists,
            self.dns_queue,
        );
        let slices = self.guarded_slices();
        let admitted = self.admitted();
        self.remember_containers();
        let people = self.outsiders_now();
        let loaded = self
            .firewall
            .load_with_people(&policy, &slices, &admitted, &people);
        let loaded = match loaded {
            // Servers are judged whatever is wrong with who is not in one.
            Err(error @ Error::Person { .. }) => {
                self.egress_trouble("Judging users outside their servers", &error);
                self.firewall.load(&policy, &slices, &admitted)
            }
            loaded => loaded,
        };
        match loaded {
            Ok(()) => {
                self.outsiders_told(people);
                self.loaded = true;
                self.resolvers = resolvers;
                self.relays = relays;
                self.slices = slices;
                self.trouble_told = None;
                self.tell_lack();
            }
            Err(error) => {
                self.loaded = false;
                self.egress_trouble("Loading the packet rules", &error);
            }
        }
        self.note_anew();
    }

    /// Tells what the policy asks for and this kernel or node cannot do.
    fn tell_lack(&mut self) {
        let lack = self.firewall.lacks();
        if let Some(lack) = &lack {
            self.tell_once(Told::new(Kind::Trouble, Level::Error, lack.clone()));
        }
        self.networks.lack = lack;
    }

    /// Has what delays packets follow interfaces and routes.
    pub(super) fn follow_uplinks(&mut self) {
        match self.firewall.follow_uplinks() {
            Ok(false) => {}
            Ok(true) => {
                self.note_anew();
                self.tell_lack();
            }
            Err(error) => self.egress_trouble("Following the network interfaces", &error),
        }
    }

    /// Reads the deny lists; one that cannot be read is told of and left out.
    pub(super) fn read_lists(&mut self) {
        let (lists, troubles) = Lists::new(self.store.directory()).load();
        self.lists = Arc::new(lists);
        for trouble in troubles {
            let message = format!("A deny list is not in force: {trouble}.");
            self.tell(Told::new(Kind::Trouble, Level::Error, message));
        }
    }

    /// Everybody who is let out, by which class.
    pub(super) fn admitted(&self) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        for entry in self.entries.values() {
            if let Entry::Guarded(guarded) = entry {
                admitted.extend(guarded.admitted());
            }
        }
        admitted.extend(self.exempt.values().cloned());
        admitted
    }

    /// Takes the rules away.
    pub(super) fn unload_egress(&mut self) -> Result<(), egress::Error> {
        self.firewall.remove()?;
        self.loaded = false;
        Ok(())
    }

    pub(super) fn let_in(&mut self, admitted: &Admitted, server: &Server) {
        if !self.loaded {
            return;
        }
        if let Err(error) = self.firewall.admit(std::slice::from_ref(admitted)) {
            // The next check loads everything anew.
            self.loaded = false;
            let what = format!("Letting {}'s server out", super::watch::user_of(server));
            self.egress_trouble(&what, &error);
        }
        self.note_generation();
    }

    pub(super) fn admit_exempt(&mut self, admitted: &Admitted) {
        self.numbers.insert(admitted.number, admitted.cgroup);
        self.exempt.insert(admitted.cgroup, admitted.clone());
        if self.loaded {
            if let Err(error) = self.firewall.admit(std::slice::from_ref(admitted)) {
                self.loaded = false;
                self.egress_trouble("Leaving a unit's network alone", &error);
            }
            self.note_generation();
        }
    }

    pub(super) fn shut_out(&mut self, id: CgroupId) {
        if let Some(exempt) = self.exempt.remove(&id) {
            self.numbers.remove(&exempt.number);
        }
        if !self.loaded {
            return;
        }
        if let Err(error) = self.firewall.forget(&[id]) {
            self.loaded = false;
            self.egress_trouble("Forgetting a server that stopped", &error);
        }
        self.note_generation();
    }

    /// The services of this node that ask resolvers for others, of those that run. Whose programs
    /// ask systemd-resolved over D-Bus, or Docker's resolver in a container, get no answer of their
    /// own that could be read.
    pub(super) fn relays(&self) -> Vec<CgroupId> {
        const RELAYS: [&str; 2] = ["systemd-resolved.service", "docker.service"];
        self.services(&RELAYS)
            .into_iter()
            // What jobs are answered is read as well: they are judged by names too.
            .chain(self.job_services())
            .collect()
    }

    /// The slices whose unknown members reach nothing, of those that exist.
    pub(super) fn guarded_slices(&self) -> Vec<CgroupId> {
        let path = self.root.join(&self.config.hub.slice);
        std::fs::metadata(path)
            .map(|metadata| CgroupId(metadata.ino()))
            .into_iter()
            .collect()
    }

    pub(super) fn egress_trouble(&mut self, what: &str, error: &egress::Error) {
        let text = format!("{what} failed and is tried again: {error}.");
        if self.trouble_told.as_ref() != Some(&text) {
            self.tell(Told::new(Kind::Trouble, Level::Error, text.clone()));
            self.trouble_told = Some(text);
        }
    }
}

fn policy(
    mode: Mode,
    config: &crate::config::Config,
    resolvers: &[IpAddr],
    relays: &[CgroupId],
    lists: &Arc<Vec<List>>,
    dns_queue: u16,
) -> Policy {
    let mut classes = config.egress.classes.clone();
    classes.extend(super::classes::spent(&config.egress));
    Policy {
        mode,
        classes,
        hub_ports: config.hub.api_ports.clone(),
        proxies: config.hub.proxies.clone(),
        resolvers: resolvers.to_vec(),
        denied: config.egress.denied.clone(),
        private: config.egress.private.clone(),
        lists: Arc::clone(lists),
        log_group: config.egress.log_group,
        relays: relays.to_vec(),
        dns_queue,
        abuse: config.egress.abuse,
    }
}
