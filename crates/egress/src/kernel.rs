//! The driver for nf_tables.

mod answers;
mod changes;
mod compared;
mod counts;
mod queues;

use std::time::Duration;

use nix::errno::Errno;

use super::{
    Admitted, Attempts, Audit, Bridges, CgroupId, ClassName, Difference, Error, Firewall,
    ForeignChange, Mode, Netlink, OwnWrites, People, Policy, Refused, Sent, Traffic, bridges,
    encode::{self, Change},
    installed::{Delta, Installed},
    message::Message,
    monitor::{Membership, Watch},
    names::{self, Dictionary, Queueing},
    readback,
    refused::RefusedCounts,
    repair::Patch,
    ruleset::Ruleset,
    shape::{Shaper, Shaping},
    table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_NETDEV, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST},
};
use changes::{by_family, by_set, is_drift, messages};
#[cfg(any(test, fuzzing))]
pub(super) use changes::{by_set as messages_of_sets, messages as messages_of};
use compared::verify;

/// One writer of `table inet hubwarden` in the network namespace it was opened in.
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    installed: Option<Installed>,
    /// `NFT_TABLE_F_*` that the table is made with.
    flags: u32,
    /// How packets are queued, once it was tried.
    queueing: Option<Queueing>,
    /// The names of deny lists.
    dictionary: Dictionary,
    /// The devices that packets of shaped classes wait in.
    shaper: Shaper,
    /// The containers of the moment.
    bridges: Bridges,
    /// Whether the kernel has rules for bridges, once it was asked.
    bridging: Option<Result<(), Errno>>,
    /// How many packets were refused.
    refused: RefusedCounts,
    /// What was written, for audits beside.
    writings: OwnWrites,
    /// Of the monitor that hears of others' changes.
    membership: Option<Membership>,
}

impl Kernel {
    /// Open the kernel's rules, of the calling thread's network namespace. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::open()?,
            installed: None,
            flags: 0,
            queueing: None,
            dictionary: Dictionary::default(),
            shaper: Shaper::open()?,
            bridges: Bridges::default(),
            bridging: None,
            refused: RefusedCounts::default(),
            writings: OwnWrites::default(),
            membership: None,
        })
    }

    /// Have the kernel keep everybody else from changing the table while this writer lives, where
    /// it can do so and leave the table standing when the writer ends (`NFT_TABLE_F_OWNER` with
    /// `NFT_TABLE_F_PERSIST`, 6.9). Elsewhere nothing changes: without the second flag the rules
    /// would go with the daemon.
    pub fn owning(mut self) -> Self {
        let held = Ruleset {
            family: NFPROTO_INET,
            table: format!("{}-probe", table::TABLE),
            flags: NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST,
            ..Ruleset::default()
        };
        let taken = encode::create(&held)
            .and_then(|mut messages| {
                messages.extend(encode::remove(held.family, &held.table)?);
                Ok(messages)
            })
            .and_then(|messages| self.netlink.transact("try to own a table", &messages));
        if taken.is_ok() {
            self.flags = held.flags;
        }
        self
    }

    /// Whether nobody else can change the table while this writer lives.
    pub fn owns(&self) -> bool {
        self.flags & NFT_TABLE_F_OWNER != 0
    }

    /// The tables, for a [`Monitor`](super::Monitor) that passes over what this writer does.
    ///
    /// # Errors
    /// [`nft::Error::Socket`].
    pub fn watch(&self) -> Result<Watch, Error> {
        Ok(table::watch(self.netlink.port()?))
    }

    /// Have this monitor hear nothing of tables that are made anew; `None` once there is none, whose
    /// socket would stay open otherwise.
    pub(super) fn set_membership(&mut self, membership: Option<Membership>) {
        self.membership = membership;
    }

    fn installed(&self, attempt: &'static str) -> Result<&Installed, Error> {
        self.installed.as_ref().ok_or(Error::NotLoaded { attempt })
    }

    /// Make a change in the kernel, then in memory. Where the kernel's table is not as
    /// remembered, the whole of it is installed anew with the change in it.
    fn change(&mut self, attempt: &'static str, delta: Delta) -> Result<(), Error> {
        let policy = self.installed(attempt)?.policy();
        if delta.is_empty() {
            return Ok(());
        }
        let messages = messages(&delta, policy)?;
        match self.transact(attempt, &messages) {
            Ok(()) => {
                if let Some(installed) = &mut self.installed {
                    installed.apply(delta);
                }
                Ok(())
            }
            Err(error) if is_drift(&error) => {
                let mut next = self.installed(attempt)?.clone();
                next.apply(delta);
                self.install(attempt, next)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes to the table.
    fn transact(&mut self, attempt: &'static str, messages: &[Message]) -> Result<(), Error> {
        self.writings.change();
        Ok(self.netlink.transact(attempt, messages)?)
    }

    fn install(&mut self, attempt: &'static str, mut installed: Installed) -> Result<(), Error> {
        // The old table takes its counters with it. One that is not there has none.
        let _ = self.read_refused();
        installed.make_room();
        self.make_detours(&mut installed);
        let mut made = self.replace(attempt, &installed);
        if let Err(error) = &made
            && !installed.shaping.detours.is_empty()
        {
            // An interface may have gone just now. The rest must not wait for it.
            self.shaper.rules_failed(error);
            installed.shaping = Shaping::default();
            made = self.replace(attempt, &installed);
        }
        made.map_err(owned)?;
        self.refused.begin_anew();
        // What cannot be taken away is in nobody's way; it is tried again with the next table.
        let _ = self.shaper.clear(&installed.shaping.detours);
        self.installed = Some(installed);
        Ok(())
    }

    fn replace(&mut self, attempt: &'static str, installed: &Installed) -> Result<(), Error> {
        let mut messages = Vec::new();
        for (family, ruleset) in self.rulesets(installed) {
            match ruleset {
                Some(mut ruleset) => {
                    self.carry_flows(&mut ruleset)?;
                    messages.extend(encode::replace(&ruleset)?);
                }
                None => messages.extend(encode::remove(family, table::TABLE)?),
            }
        }
        self.transact_unheard(attempt, &messages)
    }

    /// Makes the table anew while the monitor does not listen. Where another wrote at the same time it is made once
    /// more, and listened to: so what others do to it is undone by that, or heard.
    fn transact_unheard(
        &mut self,
        attempt: &'static str,
        messages: &[Message],
    ) -> Result<(), Error> {
        let before = self.netlink.generation()?;
        let Some(membership) = self.membership.take() else {
            return self.transact(attempt, messages);
        };
        // To be heard takes longer, and is no reason not to write.
        let _ = membership.leave();
        let written = self.transact(attempt, messages);
        let joined = membership.join();
        self.membership = Some(membership);
        written?;
        joined?;
        match self.netlink.generation()?.wrapping_sub(before) {
            1 => Ok(()),
            _ => self.transact(attempt, messages),
        }
    }

    /// Asks the kernel once whether it has rules for bridges, as `probe` does for the rest.
    fn bridging(&mut self) -> Result<(), Errno> {
        if let Some(known) = self.bridging {
            return known;
        }
        let mut ruleset = bridges::build(&Policy::standard(Mode::Enforce));
        ruleset.table = format!("{}-probe", table::TABLE);
        let tried = encode::create(&ruleset).and_then(|mut messages| {
            messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
            self.netlink.transact("try rules for bridges", &messages)
        });
        let known = tried.map_err(|error| error.errno().unwrap_or(Errno::EOPNOTSUPP));
        self.bridging = Some(known);
        known
    }
}

/// Who may not write at all is told so when the socket is opened; a refusal later is the owner's.
fn owned(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => Error::Owned,
        _ => error,
    }
}

impl Firewall for Kernel {
    fn probe(&mut self) -> Result<(), Error> {
        let mut policy = Policy::standard(Mode::Enforce);
        policy.resolvers.push(std::net::Ipv4Addr::LOCALHOST.into());
        let mut ruleset = table::build(&policy);
        ruleset.table = format!("{}-probe", table::TABLE);
        let mut messages = encode::create(&ruleset)?;
        messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
        Ok(self.netlink.transact("try the egress table", &messages)?)
    }

    fn load_with_people(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        people: &People,
    ) -> Result<(), Error> {
        let mut next = Installed::new(policy)?;
        if names::uses(policy) {
            self.queueing()?;
        }
        self.dictionary.follow(policy);
        self.carry_learned(&mut next)?;
        next.apply(next.admit(servers)?);
        next.apply(next.guard(guarded));
        next.set_people(people)?;
        next.set_bridges(self.bridges.clone());
        self.install("load the egress table", next)
    }

    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error> {
        let attempt = "admit servers";
        let delta = self.installed(attempt)?.admit(servers)?;
        self.change(attempt, delta)?;
        self.follow_queues();
        Ok(())
    }

    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error> {
        let attempt = "forget servers";
        let delta = self.installed(attempt)?.forget(cgroups);
        self.change(attempt, delta)?;
        self.follow_queues();
        Ok(())
    }

    fn reclass(&mut self, changes: &[(CgroupId, ClassName)]) -> Result<(), Error> {
        let attempt = "change servers' classes";
        let delta = self.installed(attempt)?.reclass(changes)?;
        self.change(attempt, delta)?;
        self.follow_queues();
        Ok(())
    }

    fn set_guarded(&mut self, slices: &[CgroupId]) -> Result<(), Error> {
        let attempt = "guard slices";
        let delta = self.installed(attempt)?.guard(slices);
        self.change(attempt, delta)
    }

    fn set_people(&mut self, people: &People) -> Result<(), Error> {
        let attempt = "judge users outside their servers";
        let installed = self.installed(attempt)?;
        if installed.people() == people {
            return Ok(());
        }
        let [gone, come] = people.change(installed.people(), installed.policy());
        let mut next = installed.clone();
        next.set_people(people)?;
        let mut messages = by_set(Change::Delete, gone)?;
        messages.extend(by_set(Change::Add, come)?);
        if messages.is_empty() {
            self.installed = Some(next);
            return Ok(());
        }
        match self.transact(attempt, &messages) {
            Ok(()) => {
                self.installed = Some(next);
                self.follow_queues();
                Ok(())
            }
            Err(error) if is_drift(&error) => self.install(attempt, next),
            Err(error) => Err(error),
        }
    }

    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error> {
        if let (false, Err(errno)) = (bridges.is_empty(), self.bridging()) {
            return Err(Error::NoBridges { errno });
        }
        self.bridges = bridges.clone();
        let attempt = "judge other containers";
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let before = installed.bridges();
        if before == bridges {
            return Ok(());
        }
        let mut next = installed.clone();
        next.set_bridges(bridges.clone());
        if before.is_empty() == bridges.is_empty() {
            let policy = installed.policy();
            let (old, new) = (before.elements(policy), bridges.elements(policy));
            let mut messages = by_family(Change::Delete, old.difference(&new))?;
            messages.extend(by_family(Change::Add, new.difference(&old))?);
            match self.transact(attempt, &messages) {
                Ok(()) => {
                    self.installed = Some(next);
                    self.follow_queues();
                    return Ok(());
                }
                Err(error) if is_drift(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.install(attempt, next)
    }

    fn follow_uplinks(&mut self) -> Result<bool, Error> {
        let attempt = "follow the interfaces that packets leave by";
        let Some(installed) = self.with_other_uplinks()? else {
            return Ok(false);
        };
        self.install(attempt, installed)?;
        Ok(true)
    }

    fn remove(&mut self) -> Result<(), Error> {
        let mut messages = encode::remove(NFPROTO_INET, table::TABLE)?;
        if self.bridging().is_ok() {
            messages.extend(encode::remove(NFPROTO_BRIDGE, table::TABLE)?);
        }
        if readback::stands(&mut self.netlink, NFPROTO_NETDEV, table::TABLE) {
            messages.extend(encode::remove(NFPROTO_NETDEV, table::TABLE)?);
        }
        self.netlink
            .transact("remove the egress table", &messages)
            .map_err(|error| owned(error.into()))?;
        self.installed = None;
        self.shaper.clear(&[])
    }

    fn standing(&mut self) -> Result<Vec<String>, Error> {
        let families = [
            (NFPROTO_INET, "inet"),
            (NFPROTO_BRIDGE, "bridge"),
            (NFPROTO_NETDEV, "netdev"),
        ];
        let stands =
            |(family, _): &(u8, &str)| readback::stands(&mut self.netlink, *family, table::TABLE);
        let tables: Vec<_> = families.into_iter().filter(stands).collect();
        let mut standing: Vec<String> = tables
            .into_iter()
            .map(|(_, family)| format!("table {family} {}", table::TABLE))
            .collect();
        standing.extend(self.shaper.standing()?);
        Ok(standing)
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        let installed = self.installed("verify the egress table")?.clone();
        let expected = self.rulesets(&installed);
        let audited = verify(&mut self.netlink, &expected, &self.writings.since_now())?;
        Ok(audited.differences)
    }

    fn repair(&mut self, change: &ForeignChange) -> Result<bool, Error> {
        let attempt = "repair the egress table";
        let installed = self.installed(attempt)?;
        if let Some(patch) = Patch::of(change, installed) {
            if patch.is_empty() {
                return Ok(false);
            }
            let mut messages = Vec::new();
            for wanted in [Change::Delete, Change::Add] {
                let elements = patch
                    .changes
                    .iter()
                    .filter(|(change, ..)| *change == wanted);
                let elements = elements.map(|(_, set, element)| (set.clone(), element.clone()));
                messages.extend(by_set(wanted, elements.collect())?);
            }
            match self.transact(attempt, &messages) {
                Ok(()) => return Ok(true),
                // More has happened than the notice knew.
                Err(error) if is_drift(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let installed = self.installed(attempt)?.clone();
        self.install(attempt, installed)?;
        Ok(true)
    }

    fn audit(&mut self) -> Result<Audit, Error> {
        let installed = self.installed("audit the egress table")?.clone();
        let expected = self.rulesets(&installed);
        // Opened here: the thread it is used on may be in another network namespace.
        let mut netlink = Netlink::open()?;
        let since = self.writings.since_now();
        Ok(Box::new(move || verify(&mut netlink, &expected, &since)))
    }

    fn sent(&mut self) -> Result<Vec<Sent>, Error> {
        self.all_sent()
    }

    fn traffic(&mut self) -> Result<Vec<Traffic>, Error> {
        self.all_traffic()
    }

    fn refused(&mut self) -> Result<Vec<Refused>, Error> {
        self.read_refused()?;
        Ok(self.refused.take())
    }

    fn attempts(&mut self, least: usize, since: Duration) -> Result<Vec<Attempts>, Error> {
        self.all_attempts(least, since)
    }

    fn lacks(&mut self) -> Option<String> {
        let policy = self.installed.as_ref()?.policy();
        let unread = self.queueing == Some(Queueing::Missing) && !names::places(policy).is_empty();
        let names = unread.then_some(
            "Classes with names reach nothing by name: this kernel queues no packets to be read \
             (it needs CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with \
             CONFIG_NETFILTER_XT_TARGET_NFQUEUE). Use networks in these classes.",
        );
        let lacks: Vec<&str> = names.into_iter().chain(self.shaper.lack()).collect();
        (!lacks.is_empty()).then(|| lacks.join(" "))
    }

    /// What is learned raises the kernel's number too, and changes nothing that anybody should look
    /// at: it is not counted.
    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.writings.generation(&mut self.netlink)?)
    }
}
