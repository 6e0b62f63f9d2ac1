//! The driver of shaping: keeps devices and queues as servers and interfaces are.

use std::collections::BTreeMap;

use super::{
    Detour, Queue, Sender, Shaping, assign,
    devices::{Devices, Uplinks},
    rules::probe,
};
use crate::{BitsPerSecond, Error, Netlink, encode};

/// What it says first where shaping is not to be had.
const INSTEAD: &str = "Bandwidth of classes with `shape` is held by dropping, not by delaying";

/// One writer of our devices and their queues, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Shaper {
    devices: Devices,
    /// The interfaces when it was last tried.
    tried: Uplinks,
    /// A change failed: what stands is to be made anew.
    broken: bool,
    /// What is asked for and cannot be had.
    lack: Option<String>,
}

impl Shaper {
    /// Open a socket to the kernel. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            devices: Devices::open()?,
            tried: Uplinks::default(),
            broken: false,
            lack: None,
        })
    }

    /// Whether this kernel can shape: rules and devices are made and taken back.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn probe(&mut self, netlink: &mut Netlink) -> Result<(), Error> {
        probe_rules(netlink)?;
        self.devices.probe()
    }

    /// Our devices that are there.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn standing(&mut self) -> Result<Vec<String>, Error> {
        self.devices.standing()
    }

    /// What is asked for and cannot be had.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// Makes what the rules need before they are made: detours for all interfaces that packets leave
    /// by, with queues of these rates by sender. Where that cannot be, nothing stands and
    /// [`lack`](Self::lack) says why: then bandwidth is policed.
    pub fn stand(
        &mut self,
        netlink: &mut Netlink,
        before: &Shaping,
        wanted: Option<&BTreeMap<Sender, BitsPerSecond>>,
    ) -> Shaping {
        self.broken = false;
        self.lack = None;
        let Some(wanted) = wanted else {
            return Shaping::default();
        };
        let queues = assign(&before.queues, wanted);
        match self.try_stand(netlink, &queues) {
            Ok(detours) => {
                self.lack = self.shortcomings(wanted.len().saturating_sub(queues.len()));
                Shaping { detours, queues }
            }
            Err(error) => {
                self.lack = Some(format!("{INSTEAD}: {error}."));
                Shaping::default()
            }
        }
    }

    fn try_stand(
        &mut self,
        netlink: &mut Netlink,
        queues: &BTreeMap<Sender, Queue>,
    ) -> Result<Vec<Detour>, Error> {
        let (uplinks, _) = self.devices.look(&[])?;
        self.tried = uplinks;
        probe_rules(netlink)?;
        let mut detours = Vec::new();
        for uplink in &self.tried.possible {
            detours.push(self.devices.stand(uplink, queues)?);
        }
        Ok(detours)
    }

    fn shortcomings(&self, without: usize) -> Option<String> {
        let others = self.tried.impossible.join(", ");
        let mut lacks = Vec::new();
        if self.tried.possible.is_empty() && others.is_empty() {
            lacks.push("no interface has a default route".to_owned());
        }
        if !others.is_empty() {
            lacks.push(format!(
                "{others} carries no Ethernet, so what leaves by it is not delayed"
            ));
        }
        if without > 0 {
            lacks.push(format!(
                "there are 65535 queues, and {without} servers found none free"
            ));
        }
        (!lacks.is_empty()).then(|| format!("{INSTEAD}, for some: {}.", lacks.join("; ")))
    }

    /// The rules could not be made with detours in them.
    pub fn rules_failed(&mut self, error: &Error) {
        self.lack = Some(format!("{INSTEAD}: {error}."));
    }

    /// Whether what stands is not what should stand on the interfaces of the moment.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_out_of_date(&mut self, detours: &[Detour]) -> Result<bool, Error> {
        let (uplinks, stand) = self.devices.look(detours)?;
        Ok(self.broken || !stand || uplinks != self.tried)
    }

    /// Has queues follow servers; `change` has the rules follow in between, when every queue that
    /// they name is there.
    ///
    /// # Errors
    /// The kernel's refusal: [`is_out_of_date`](Self::is_out_of_date) says so until all is made anew.
    pub fn follow(
        &mut self,
        before: &Shaping,
        after: &Shaping,
        change: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self { devices, .. } = self;
        let done = devices
            .add_queues(&after.detours, &before.queues, &after.queues)
            .and_then(|()| change())
            .and_then(|()| devices.end_queues(&after.detours, &before.queues, &after.queues));
        self.broken |= done.is_err();
        done
    }

    /// Takes away all our devices but those of these detours.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn clear(&mut self, keep: &[Detour]) -> Result<(), Error> {
        self.devices.clear(keep)
    }
}

fn probe_rules(netlink: &mut Netlink) -> Result<(), Error> {
    let ruleset = probe();
    let mut messages = encode::create(&ruleset)?;
    messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
    Ok(netlink.transact("try rules where interfaces send", &messages)?)
}
