//! Puts back what others do to the table, on a thread of its own: the daemon's loop may be in the
//! middle of a tick, and the rules must not be wrong until that is over.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use tokio::{runtime, sync::mpsc};

use super::{
    Error, Firewall, ForeignChange, ForeignWrite, Kernel, Monitor, Netlink, Writer, monitor,
    shared::lock,
};

/// What others did to the table at one go, and what was done about it.
#[derive(Debug)]
pub struct Repair {
    /// Who it was; nobody where changes came faster than they were told.
    pub by: BTreeSet<Writer>,
    /// What they did, as far as it was told.
    pub change: ForeignChange,
    /// Whether there was anything to put back; an error says why that failed.
    pub outcome: Result<bool, Error>,
}

impl Repair {
    /// Puts back what these did, by one change of the rules.
    pub fn of(writes: impl IntoIterator<Item = ForeignWrite>, rules: &mut impl Firewall) -> Self {
        let mut by = BTreeSet::new();
        let mut change = ForeignChange::default();
        for write in writes {
            if let ForeignWrite::By(writer, done) = write {
                by.insert(writer);
                change.merge(done);
            }
        }
        let outcome = match change.is_empty() {
            true => Ok(false),
            false => rules.repair(&change),
        };
        Self {
            by,
            change,
            outcome,
        }
    }
}

/// Hears of others' changes and puts them back, in the network namespace it was opened in.
#[derive(Debug)]
pub struct RepairThread {
    rules: Arc<Mutex<Kernel>>,
    joined: Netlink,
}

impl RepairThread {
    /// Listens from now on; what happens is kept until [`RepairThread::run`] gets to it.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open(rules: Arc<Mutex<Kernel>>) -> Result<Self, Error> {
        let (joined, membership) = monitor::join()?;
        lock(&rules).set_membership(Some(membership));
        Ok(Self { rules, joined })
    }

    /// Puts back and tells, until nobody listens any more. Blocks, so it wants a thread of its own.
    ///
    /// # Errors
    /// [`Error::Socket`]: others' changes are not heard any more.
    pub fn run(self, tell: &mpsc::Sender<Repair>) -> Result<(), Error> {
        let Self { rules, joined } = self;
        let mut watch = lock(&rules).watch()?;
        let runtime = runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| Error::of_io("wait for changes of rules", &error))?;
        let ended = runtime.block_on(async {
            let mut monitor = Monitor::on(joined, watch.clone())?;
            loop {
                let writes = monitor.next_ones().await?;
                let now = lock(&rules).watch()?;
                if now != watch {
                    // These may be the writer's own, by another socket than before. What was
                    // another's is seen by the generation, at the next tick.
                    monitor.set_own(now.own);
                    watch = now;
                    continue;
                }
                let repair = Repair::of(writes, &mut *lock(&rules));
                if tell.send(repair).await.is_err() {
                    return Ok(());
                }
            }
        });
        lock(&rules).set_membership(None);
        ended
    }
}
