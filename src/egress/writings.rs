//! What this writer itself wrote, for whoever reads the table beside it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{Error, socket::Netlink};

/// How often one writer wrote to its table.
#[derive(Clone, Debug, Default)]
pub struct Writings(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Changes of what is compared with what was installed.
    changes: AtomicU64,
    /// Transactions that raise the kernel's generation and change nothing that anybody should look at:
    /// addresses of names, which may come many times a second, and servers' queues.
    asides: AtomicU32,
}

impl Writings {
    /// The table is changed.
    pub fn change(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was written that is not to be looked at.
    pub fn aside(&self) {
        self.0.asides.fetch_add(1, Ordering::Relaxed);
    }

    /// The kernel's generation without what is not to be looked at.
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
            writings: self.clone(),
            changes: self.0.changes.load(Ordering::Relaxed),
            asides: self.0.asides.load(Ordering::Relaxed),
        }
    }
}

/// What was written since a moment.
#[derive(Debug)]
pub struct Since {
    writings: Writings,
    changes: u64,
    asides: u32,
}

impl Since {
    /// What was installed at that moment is installed no more.
    pub fn is_overtaken(&self) -> bool {
        self.writings.0.changes.load(Ordering::Relaxed) != self.changes
    }

    /// Other addresses of names are known than at that moment.
    pub fn learned_more(&self) -> bool {
        self.writings.0.asides.load(Ordering::Relaxed) != self.asides
    }

    /// As [`Writings::generation`].
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn generation(&self, netlink: &mut Netlink) -> Result<u32, Error> {
        self.writings.generation(netlink)
    }
}
