//! The power to let a server's packets out, and to refuse them.

use std::time::Duration;

use super::{
    Admitted, Attempts, Bridges, CgroupId, ClassName, Difference, Error, ForeignChange, Policy,
    Refused, Sender, Tracking, UidRules,
};

/// One writer of packet rules. Each call but `load` and `verify` takes about a millisecond and
/// blocks; none waits for anything but the kernel.
///
/// All changes are transactions: they happen whole or not at all, and no packet meets half of
/// one. The driver remembers what it installed, so nothing is deleted that is not there; when
/// the kernel's table proves to be another than remembered (someone flushed it), the change is
/// made by installing the whole table again.
///
/// No method has a default: a driver that stands before another (`shared`) would answer by it
/// instead of asking that one.
pub trait Firewall: Send {
    /// Whether this kernel can hold the table: made and taken back within one transaction.
    ///
    /// # Errors
    /// What the kernel refused, and the module that is likely missing.
    fn probe(&mut self) -> Result<(), Error>;

    /// Replace the whole table by this policy, these guarded slices, these servers and these
    /// users outside their servers. There is no moment with neither the old nor the new one.
    /// Works whatever stood there before.
    ///
    /// # Errors
    /// A policy, server or user that cannot be, or the kernel's refusal: the old table stands.
    fn load_with_uid_rules(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        uid_rules: &UidRules,
    ) -> Result<(), Error>;

    /// The same with nobody judged outside the servers.
    ///
    /// # Errors
    /// As for [`Firewall::load_with_uid_rules`].
    fn load(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
    ) -> Result<(), Error> {
        self.load_with_uid_rules(policy, guarded, servers, &UidRules::default())
    }

    /// Let these servers out by their classes. One already admitted is changed to what is said
    /// now.
    ///
    /// # Errors
    /// As `load`, and [`Error::NotLoaded`]. On error, none is admitted.
    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error>;

    /// Forget these servers: in a guarded slice they are pending again, elsewhere untouched.
    /// Cgroups that were never admitted are passed over.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal.
    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error>;

    /// Judge these servers by other classes from the next packet on, established flows
    /// included.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`], [`Error::UnknownClass`], or the kernel's refusal.
    fn reclass(&mut self, changes: &[(CgroupId, ClassName)]) -> Result<(), Error>;

    /// Guard exactly these level-1 slices: what is in them and not admitted reaches nothing.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal.
    fn set_guarded(&mut self, slices: &[CgroupId]) -> Result<(), Error>;

    /// Judge exactly these users outside their servers, each by the class said now.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], [`Error::UidRule`], or the kernel's refusal: all stay as they were.
    fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error>;

    /// Judge exactly these containers by the ports that they are behind. Before `load` they are
    /// only remembered for it; a later `load` keeps them.
    ///
    /// # Errors
    /// [`Error::NoBridges`], or the kernel's refusal.
    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error>;

    /// Say that somebody is there for so long to find out who a container is that comes anew on a guarded
    /// bridge, and which ports are whose. It is closed for that time, and from its end on judged as a new
    /// user's. Nothing to do where there are no containers.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal.
    fn keep_watch(&mut self, time: Duration) -> Result<(), Error>;

    /// Have what delays packets follow the interfaces that they leave by; true if the table was
    /// made anew for it. To be called when interfaces or routes may have changed.
    ///
    /// # Errors
    /// The interfaces could not be read, or the kernel's refusal.
    fn follow_uplinks(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// See to it that other programs cannot take the table away, where that needs a process beside;
    /// true if what this table lacks may be another by that. To be called from time to time; waits
    /// for nothing.
    ///
    /// # Errors
    /// The kernel's refusal to make the table anew.
    fn keep_held(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Take the table away, if it is there.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn remove(&mut self) -> Result<(), Error>;

    /// What of this program's stands in the kernel, whoever loaded it, in words: tables, devices.
    ///
    /// # Errors
    /// The kernel could not be asked.
    fn standing(&mut self) -> Result<Vec<String>, Error>;

    /// Read the table back and say how it differs from what was installed. Empty is well.
    /// A few tens of milliseconds at 5,000 servers.
    ///
    /// # Errors
    /// The rules could not be read.
    fn verify(&mut self) -> Result<Vec<Difference>, Error>;

    /// Put right at once what another did, as far as the notice of it tells: single elements one by
    /// one, anything else by the whole table in one transaction. Nothing is read back: audit
    /// after. False if there is nothing to mend.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal.
    fn repair(&mut self, change: &ForeignChange) -> Result<bool, Error>;

    /// A verification to be run on another thread, of what is installed at this moment. It ends early,
    /// with [`Error::Overtaken`], if the table is written meanwhile.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel cannot be asked.
    fn audit(&mut self) -> Result<Audit, Error>;

    /// What each admitted server sent since the table was loaded or the server admitted, refused
    /// packets and those to itself included. A few milliseconds at 5,000 servers.
    ///
    /// # Errors
    /// The table could not be read.
    fn sent(&mut self) -> Result<Vec<Sent>, Error>;

    /// What servers of classes with a daily share sent elsewhere and received from there since the
    /// table was loaded. A few milliseconds at 5,000 servers.
    ///
    /// # Errors
    /// The table could not be read.
    fn traffic(&mut self) -> Result<Vec<Traffic>, Error>;

    /// The same of the table that an earlier daemon left, by this policy's classes, before this one has
    /// loaded its own. Empty where there is none.
    ///
    /// # Errors
    /// The table could not be read.
    fn left_traffic(&mut self, policy: &Policy) -> Result<Vec<(Sender, u64)>, Error>;

    /// How many packets were refused, or when observing would have been, since this was asked last;
    /// who has none is left out. Under a millisecond.
    ///
    /// # Errors
    /// The table could not be read. Nothing is lost by that.
    fn refused(&mut self) -> Result<Vec<Refused>, Error>;

    /// Senders that at least `least` hosts lately did not answer, or one host on at least so many
    /// ports, and how many of those were tried in the time `since`. Well under a millisecond where
    /// nobody scans.
    ///
    /// # Errors
    /// The table could not be read.
    fn attempts(&mut self, least: usize, since: Duration) -> Result<Vec<Attempts>, Error>;

    /// What the loaded policy asks for and this kernel cannot do, with what follows from that.
    fn lacks(&mut self) -> Option<String>;

    /// What is known of the kernel's table of connections, to be put into the next policy: it may change
    /// whenever others change their rules. A few milliseconds.
    fn tracking(&mut self) -> Tracking;

    /// The kernel's number of the present ruleset, raised by every transaction of anyone in
    /// this network namespace (`NFT_MSG_GETGEN`). Two equal readings mean nothing was changed
    /// between them.
    ///
    /// # Errors
    /// The kernel could not be asked.
    fn generation(&mut self) -> Result<u32, Error>;
}

/// A verification that has not run yet. It blocks for as long as [`Firewall::verify`].
pub type Audit = Box<dyn FnOnce() -> Result<Audited, Error> + Send>;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The generation of the rules that were read: after a later one it says nothing.
    pub generation: u32,
    /// How they differ from what was installed.
    pub differences: Vec<Difference>,
}

/// What a server sent, as the element that leads to its class counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The server's cgroup.
    pub cgroup: CgroupId,
    /// Packets.
    pub packets: u64,
    /// Bytes of them from the IP header on.
    pub bytes: u64,
}

/// What a server sent elsewhere and received from there; one of several counts, if its class was
/// changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// What the count is kept under.
    pub sender: Sender,
    /// The server's number.
    pub number: u32,
    /// Bytes from the IP header on.
    pub bytes: u64,
}
