//! The table in the kernel as the [`Firewall`] that the daemon knows.

use std::time::Duration;

use super::{
    Kernel,
    changes::{by_family, by_set, is_drift},
    compared::verify,
    owned,
};
use crate::{
    Admitted, Attempts, Audit, Bridges, CgroupId, ClassName, Difference, Error, Firewall,
    ForeignChange, Mode, Netlink, Policy, Refused, Sender, Sent, Tracking, Traffic, UidRules,
    bridges,
    encode::{self, Change},
    installed::Installed,
    names::{self, Queueing},
    readback,
    repair::Patch,
    table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_NETDEV},
};

impl Firewall for Kernel {
    fn probe(&mut self) -> Result<(), Error> {
        let mut policy = Policy::standard(Mode::Enforce);
        // Rules that ask connection tracking anything have all tracked for a moment after they are gone.
        policy.tracking = self.look_at_tracking();
        policy.resolvers.push(std::net::Ipv4Addr::LOCALHOST.into());
        let mut ruleset = table::build(&policy);
        ruleset.table = format!("{}-probe", table::TABLE);
        let mut messages = encode::create(&ruleset)?;
        messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
        Ok(self.netlink.transact("try the egress table", &messages)?)
    }

    fn load_with_uid_rules(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        uid_rules: &UidRules,
    ) -> Result<(), Error> {
        let mut next = Installed::new(policy)?;
        if names::uses(policy) {
            self.queueing()?;
            self.labels()?;
        }
        self.dictionary.follow(policy);
        next.apply(next.admit(servers)?);
        next.apply(next.guard(guarded));
        next.set_uid_rules(uid_rules)?;
        next.set_bridges(self.bridges.clone());
        // Once all who ask are known, so that what they brought in stays theirs.
        self.carry_learned(&mut next)?;
        next.forget_senders();
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

    fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error> {
        let attempt = "judge users outside their servers";
        let installed = self.installed(attempt)?;
        if installed.uid_rules() == uid_rules {
            return Ok(());
        }
        let [gone, come] = uid_rules.change(installed.uid_rules(), installed.policy());
        let mut next = installed.clone();
        next.set_uid_rules(uid_rules)?;
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

    fn keep_watch(&mut self, time: Duration) -> Result<(), Error> {
        let attempt = "keep watch over new containers";
        if self.installed(attempt)?.bridges().is_empty() {
            return Ok(());
        }
        let mut messages = Vec::new();
        for family in [NFPROTO_INET, NFPROTO_BRIDGE] {
            messages.push(encode::flush(family, table::TABLE, bridges::WATCHED)?);
            messages.extend(encode::elements(
                family,
                table::TABLE,
                bridges::WATCHED,
                Change::Add,
                &[bridges::watched_for(time)],
            )?);
        }
        self.netlink.transact(attempt, &messages)?;
        self.writings.aside();
        Ok(())
    }

    fn follow_uplinks(&mut self) -> Result<bool, Error> {
        let attempt = "follow the interfaces that packets leave by";
        let Some(installed) = self.with_other_uplinks()? else {
            return Ok(false);
        };
        self.install(attempt, installed)?;
        Ok(true)
    }

    fn keep_held(&mut self) -> Result<bool, Error> {
        self.follow_holder(Duration::ZERO)
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

    fn left_traffic(&mut self, policy: &Policy) -> Result<Vec<(Sender, u64)>, Error> {
        self.traffic_left(policy)
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
        let unlabelled = self.labels == Some(false) && !names::places(policy).is_empty();
        let labels = unlabelled.then_some(
            "Connections of classes with names end when the name's time is over: this kernel keeps no \
             labels of connections (it needs CONFIG_NF_CONNTRACK_LABELS). Raise names_ttl_max, or use \
             networks in these classes.",
        );
        let names = names.into_iter().chain(labels);
        let held = self.holder_lack();
        let lacks = names.chain(self.shaper.lack());
        let lacks: Vec<&str> = lacks.chain(held.as_deref()).collect();
        (!lacks.is_empty()).then(|| lacks.join(" "))
    }

    fn tracking(&mut self) -> Tracking {
        self.look_at_tracking()
    }

    /// What is learned raises the kernel's number too, and changes nothing that anybody should look
    /// at: it is not counted.
    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.writings.generation(&mut self.netlink)?)
    }
}
