//! Which users' processes are being read, by all pools of workers together.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The user that processes belong to: what a user holds up is that user's loss alone. A hub user's name,
/// or in words who it is.
pub type Owner = Arc<str>;

/// Users with a worker at work on their processes. A user never has more than one worker at work, of
/// whatever pool, so no user can hold more than one.
#[derive(Debug, Clone, Default)]
pub struct Holders(Arc<Mutex<BTreeSet<Owner>>>);

/// One user's worker is at work as long as this is there.
#[derive(Debug)]
pub struct Claim {
    holders: Holders,
    owner: Owner,
}

impl Holders {
    /// `None` where a worker is at work for this user already, or where `most` are at work.
    pub fn claim(&self, owner: &Owner, most: usize) -> Option<Claim> {
        let mut owners = self.lock();
        if owners.len() >= most || !owners.insert(Arc::clone(owner)) {
            return None;
        }
        drop(owners);
        Some(Claim {
            holders: self.clone(),
            owner: Arc::clone(owner),
        })
    }

    /// Users with a worker at work.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.holders.lock().remove(&self.owner);
    }
}
