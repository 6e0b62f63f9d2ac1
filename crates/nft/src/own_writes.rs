//! How often a writer itself wrote to its table, for a reader of the table beside it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::{Error, socket::Netlink};

/// How often one writer wrote to its table.
#[derive(Clone, Debug, Default)]
pub struct OwnWrites(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Changes of what is compared with what was installed.
    changes: AtomicU64,
    /// Transactions that raise the kernel's generation and change nothing that is compared.
    asides: AtomicU32,
}

impl OwnWrites {
    /// The table is changed.
    pub fn change(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction changed only what is not compared, such as timed elements.
    pub fn aside(&self) {
        self.0.asides.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel's generation without the transactions that changed nothing that is compared.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn generation(&self, netlink: &mut Netlink) -> Result<u32, Error> {
        let generation = netlink.generation()?;
        Ok(generation.wrapping_sub(self.0.asides.load(Ordering::Relaxed)))
    }

    /// What is written from now on.
    pub fn since_now(&self) -> Since {
        Since {
            writes: self.clone(),
            changes: self.0.changes.load(Ordering::Relaxed),
            asides: self.0.asides.load(Ordering::Relaxed),
        }
    }
}

/// What was written since a moment.
#[derive(Debug)]
pub struct Since {
    writes: OwnWrites,
    changes: u64,
    asides: u32,
}

impl Since {
    /// The table was changed since that moment.
    pub fn is_overtaken(&self) -> bool {
        self.writes.0.changes.load(Ordering::Relaxed) != self.changes
    }

    /// There were asides ([`OwnWrites::aside`]) since that moment.
    pub fn has_asides(&self) -> bool {
        self.writes.0.asides.load(Ordering::Relaxed) != self.asides
    }

    /// As [`OwnWrites::generation`].
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn generation(&self, netlink: &mut Netlink) -> Result<u32, Error> {
        self.writes.generation(netlink)
    }
}
