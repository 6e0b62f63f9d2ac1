//! Egress as the daemon drives it: classes in, refusals out, repairs.

use super::entries::{Entry, Guarded};
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::cgroup::CgroupId;
use crate::config::{Egress, Resolvers};
use crate::egress::lists::{List, Lists};
use crate::egress::{Admitted, Audited, Damage, Intrusion, Policy, Refusal, RefusedBy, Writer};
use crate::evidence::Fact;
use crate::hub::{Server, Units};
use crate::report::{Entry as Told, Kind, Level};
use crate::units::{Mode, Time};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// The same refusal of the same server is told again after this long.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(3600);
/// Different refusals told per server within that time.
pub(super) const MOST_TOLD: usize = 64;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Tells a refusal, once an hour for the same server and destination.
    pub(super) fn refused(self: &Rc<Self>, refusal: &Refusal, now: Time) {
        let mut inner = self.inner.borrow_mut();
        let mode = inner.config.mode;
        let id = refusal
            .number
            .and_then(|number| inner.numbers.get(&number).copied());
        inner.meter.ledger.refused(id);
        let journal = inner.journal.clone();
        match id.and_then(|id| inner.guarded(id)) {
            Some(guarded) => {
                if worth_telling(guarded, refusal, now) {
                    journal.tell(guarded.story(mode).refused(refusal));
                }
            }
            None => inner.refused_unknown(refusal, now),
        }
        drop(inner);
        match (id, &refusal.by) {
            (Some(id), RefusedBy::List(_)) => self.asked_for_listed(id, now),
            (Some(id), RefusedBy::Spoofed) => self.abused(id, Fact::Spoofed, now),
            _ => {}
        }
    }

    /// Somebody else wrote to our table: mends it at once, not at the next tick.
    pub(super) fn intruded(
        self: &Rc<Self>,
        intrusion: Intrusion,
        more: &mut mpsc::Receiver<Intrusion>,
    ) {
        let mut by = BTreeSet::new();
        let mut damage = Damage::default();
        let mut next = Some(intrusion);
        while let Some(intrusion) = next {
            if let Intrusion::By(writer, done) = intrusion {
                by.insert(writer);
                damage.merge(done);
            }
            // What came meanwhile is mended by the same repair.
            next = more.try_recv().ok();
        }
        let mut inner = self.inner.borrow_mut();
        if !inner.off && inner.loaded {
            inner.repair_egress(&by, &damage);
        }
        drop(inner);
        // Whether that was all of it takes longer to see, and holds up nobody.
        self.audit_egress();
    }

    /// Has what the kernel holds compared with what was installed, beside the loop: to read
    /// thousands of servers' elements takes a while, in which the next repair must not wait.
    pub(super) fn audit_egress(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.off || !inner.loaded || inner.auditing {
            return;
        }
        let audit = match inner.firewall.audit() {
            Ok(audit) => audit,
            Err(error) => {
                inner.egress_trouble("Reading the packet rules back", &error);
                return;
            }
        };
        inner.auditing = true;
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let audited = tokio::task::spawn_blocking(audit).await;
            let mut inner = daemon.inner.borrow_mut();
            inner.auditing = false;
            match audited {
                Ok(Ok(audited)) => inner.audited(audited),
                Ok(Err(error)) => inner.egress_trouble("Reading the packet rules back", &error),
                // Only when the daemon ends.
                Err(_) => {}
            }
        });
    }

    /// Once a tick: follows what the rules depend on, and mends them if somebody changed them.
    pub(super) fn check_egress(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.off {
            return;
        }
        let resolvers = resolvers(&inner.config.egress);
        if !inner.loaded || resolvers != inner.resolvers || inner.relays() != inner.relays {
            inner.load_egress();
            return;
        }
        let guarded = inner.guarded_slices();
        if guarded != inner.slices {
            match inner.firewall.set_guarded(&guarded) {
                Ok(()) => inner.slices = guarded,
                Err(error) => inner.egress_trouble("Guarding the slice", &error),
            }
            inner.note_generation();
        }
        match inner.firewall.generation() {
            // Nobody has changed anything since it was compared.
            Ok(generation) if Some(generation) == inner.generation => {}
            Ok(_) => {
                drop(inner);
                self.audit_egress();
            }
            Err(error) => inner.egress_trouble("Asking for the rules' generation", &error),
        }
    }
}

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
        match self.firewall.load(&policy, &slices, &admitted) {
            Ok(()) => {
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
    pub(super) fn unload_egress(&mut self) -> Result<(), crate::egress::Error> {
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

    /// Puts back what others are known to have undone.
    fn repair_egress(&mut self, by: &BTreeSet<Writer>, damage: &Damage) {
        if damage.is_empty() {
            return;
        }
        match self.firewall.repair(damage) {
            Ok(false) => {}
            // First the rules, then the words.
            Ok(true) => self.tell_repaired(by, &damage.to_string()),
            // Whatever it is, the table whole and anew is the last resort.
            Err(_) => {
                self.load_egress();
                if self.loaded {
                    self.tell_repaired(by, &damage.to_string());
                }
            }
        }
        self.note_generation();
    }

    /// What comparing the rules with what was installed found. Of rules that were changed since
    /// it says nothing; the next tick sees that they were.
    fn audited(&mut self, audited: Audited) {
        let now = self.firewall.generation().ok();
        if self.off || !self.loaded || now != Some(audited.generation) {
            return;
        }
        if audited.differences.is_empty() {
            self.generation = now;
            return;
        }
        let shown: Vec<String> = audited
            .differences
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        let more = match audited.differences.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        self.load_egress();
        if self.loaded {
            let what = format!("{}{more}", shown.join(", "));
            self.tell_repaired(&BTreeSet::new(), &what);
        }
    }

    fn tell_repaired(&mut self, by: &BTreeSet<Writer>, what: &str) {
        let who = match by.len() {
            0 => "Somebody".to_owned(),
            _ => by
                .iter()
                .take(5)
                .map(Writer::to_string)
                .collect::<Vec<_>>()
                .join(" and "),
        };
        let message = format!(
            "{who} changed the packet rules of hubwarden, and they are put back: {what}. To lift \
             them on purpose: hubwarden off."
        );
        let mut told = Told::new(Kind::EgressRepaired, Level::Warning, message);
        if let Some(writer) = by.first() {
            told = told
                .with("CHANGED_BY", &writer.name)
                .with("CHANGED_BY_PID", writer.pid);
        }
        self.tell(told);
    }

    /// Notes that a change of our own raised the generation. By more than that one, somebody else
    /// changed something at the same time: then it stays to be compared.
    pub(super) fn note_generation(&mut self) {
        let now = self.firewall.generation().ok();
        let next = |before: u32| before.checked_add(1);
        let ours = [self.generation, self.generation.and_then(next)];
        self.generation = now.filter(|_| ours.contains(&now));
    }

    /// Notes that the whole table was made anew just now.
    fn note_anew(&mut self) {
        self.generation = self.firewall.generation().ok();
    }

    /// The services of this node that ask resolvers for others, of those that run. Whose programs
    /// ask systemd-resolved over D-Bus, or Docker's resolver in a container, get no answer of their
    /// own that could be read.
    fn relays(&self) -> Vec<CgroupId> {
        const RELAYS: [&str; 2] = ["systemd-resolved.service", "docker.service"];
        let path = |unit| self.root.join("system.slice").join(unit);
        RELAYS
            .into_iter()
            .filter_map(|unit| std::fs::metadata(path(unit)).ok())
            .map(|metadata| CgroupId(metadata.ino()))
            .collect()
    }

    /// The slices whose unknown members reach nothing, of those that exist.
    fn guarded_slices(&self) -> Vec<CgroupId> {
        let path = self.root.join(&self.config.hub.slice);
        std::fs::metadata(path)
            .map(|metadata| CgroupId(metadata.ino()))
            .into_iter()
            .collect()
    }

    pub(super) fn egress_trouble(&mut self, what: &str, error: &crate::egress::Error) {
        let text = format!("{what} failed and is tried again: {error}.");
        if self.trouble_told.as_ref() != Some(&text) {
            self.tell(Told::new(Kind::Trouble, Level::Error, text.clone()));
            self.trouble_told = Some(text);
        }
    }

    /// A refusal of a unit in the guarded slice that nobody knows; once an hour for all of them.
    fn refused_unknown(&mut self, refusal: &Refusal, now: Time) {
        if self
            .unknown_refused
            .is_some_and(|told| now.since(told) < TELL_AGAIN)
        {
            return;
        }
        self.unknown_refused = Some(now);
        let (was, mode) = match self.config.mode {
            Mode::Enforce => ("was refused", Mode::Enforce),
            Mode::Observe => ("would have been refused", Mode::Observe),
        };
        let uid = match refusal.uid {
            Some(uid) => format!("of uid {uid}"),
            None => "of an unknown uid".to_owned(),
        };
        let message = match refusal.by {
            RefusedBy::Container | RefusedBy::Spoofed => format!(
                "A container on a guarded network {was} its network: it is not known as a user's \
                 server."
            ),
            _ => format!(
                "A process {uid} in {} {was} its network: its unit is not known as a user's server.",
                self.config.hub.slice
            ),
        };
        self.tell(
            Told::new(Kind::EgressRefused, Level::Notice, message)
                .with("VERDICT_MODE", mode)
                .with("DESTINATION", refusal.destination.to_canonical()),
        );
    }
}

fn worth_telling(guarded: &mut Guarded, refusal: &Refusal, now: Time) -> bool {
    let told = &mut guarded.refusals;
    told.retain(|_, at| now.since(*at) < TELL_AGAIN);
    let target = (refusal.protocol, refusal.destination, refusal.port);
    if told.contains_key(&target) || told.len() >= MOST_TOLD {
        return false;
    }
    told.insert(target, now);
    true
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
        lists: Arc::clone(lists),
        log_group: config.egress.log_group,
        relays: relays.to_vec(),
        dns_queue,
    }
}

/// Whom servers may ask for names now.
fn resolvers(egress: &Egress) -> Vec<IpAddr> {
    match &egress.resolvers {
        Resolvers::Fixed(addresses) => addresses.clone(),
        Resolvers::Auto => {
            let read = |path| {
                std::fs::read_to_string(Path::new(path)).map(|text: String| nameservers(&text))
            };
            let mut resolvers = read(RESOLV_CONF).unwrap_or_default();
            // A container has the resolvers behind the stub: Docker gives it those.
            if resolvers.iter().any(is_stub) {
                resolvers.extend(read(BEHIND_STUB).unwrap_or_default());
            }
            resolvers
        }
    }
}

/// Whether it is systemd-resolved on this node (`systemd-resolved.service(8)`).
fn is_stub(address: &IpAddr) -> bool {
    [[127, 0, 0, 53], [127, 0, 0, 54]]
        .iter()
        .any(|stub| *address == IpAddr::from(*stub))
}

/// The `nameserver` lines of resolv.conf(5); without any the C library asks this node itself.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        // A zone as in fe80::1%eth0 says which link, not who.
        .filter_map(|rest| rest.trim().split(['%', ' ', '\t']).next()?.parse().ok())
        .collect();
    if found.is_empty() {
        return vec![IpAddr::from([127, 0, 0, 1])];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.1\nsearch lab\nnameserver 127.0.0.53\n\
                    nameserver\tfe80::1%eth0\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(nameservers(text), expected);
        assert_eq!(nameservers(""), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
