//! The driver for nf_tables.

mod answers;
mod changes;
mod compared;
mod counts;
mod firewall;
mod held;
mod queues;
mod tracked;

use nix::errno::Errno;

use super::{
    Bridges, Error, Mode, Netlink, OwnWrites, Policy, bridges, encode,
    holder::Holder,
    installed::{Delta, Installed},
    message::Message,
    monitor::{Membership, Watch},
    names::{Dictionary, Queueing},
    refused::RefusedCounts,
    ruleset::Ruleset,
    shape::{Shaper, Shaping},
    table,
    uapi::{NFPROTO_INET, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST},
};
#[cfg(any(test, fuzzing))]
pub(super) use changes::{by_set as messages_of_sets, messages as messages_of};
use changes::{is_drift, messages};

/// One writer of `table inet hubwarden` in the network namespace it was opened in.
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    installed: Option<Installed>,
    /// `NFT_TABLE_F_*` that the table is made with.
    flags: u32,
    /// Who holds the socket, where the table would go with it otherwise.
    holder: Option<Holder>,
    /// How packets are queued, once it was tried.
    queueing: Option<Queueing>,
    /// Whether connections have labels, once it was tried.
    labels: Option<bool>,
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
    /// Whether others have connections tracked.
    looks: tracked::Looks,
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
            holder: None,
            queueing: None,
            labels: None,
            dictionary: Dictionary::default(),
            shaper: Shaper::open()?,
            bridges: Bridges::default(),
            bridging: None,
            refused: RefusedCounts::default(),
            writings: OwnWrites::default(),
            membership: None,
            looks: tracked::Looks::default(),
        })
    }

    /// Have the kernel keep everybody else from changing the table while this writer lives, where
    /// it can do so and leave the table standing when the writer ends (`NFT_TABLE_F_OWNER` with
    /// `NFT_TABLE_F_PERSIST`, 6.9). Elsewhere nothing changes: without the second flag the rules
    /// would go with the daemon ([`Kernel::held`]).
    pub fn owning(mut self) -> Self {
        let flags = NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST;
        if self.takes(flags) {
            self.flags = flags;
        }
        self
    }

    /// Whether the kernel makes tables with these flags.
    fn takes(&mut self, flags: u32) -> bool {
        let held = Ruleset {
            family: NFPROTO_INET,
            table: format!("{}-probe", table::TABLE),
            flags,
            ..Ruleset::default()
        };
        let taken = encode::create(&held)
            .and_then(|mut messages| {
                messages.extend(encode::remove(held.family, &held.table)?);
                Ok(messages)
            })
            .and_then(|messages| self.netlink.transact("try to own a table", &messages));
        taken.is_ok()
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
                Some(ruleset) => messages.extend(encode::replace(&ruleset)?),
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
