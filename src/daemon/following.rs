//! Follows who may become root: accounts are asked about again when their files change, and every
//! minute, since a directory's groups change without a file's change.
//!
//! The user database may be a directory that is slow or away. One look-up is under way at a time,
//! beside the loop; while there is no answer the last one stands, and `status` says so.

use super::uid_egress::PROXIES;
use super::{Daemon, Inner, now};
use crate::act::CpuControl;
use crate::hub::{AccountFiles, NotNow, UnitName, Units};
use quantities::Time;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// All accounts are asked about at least so often.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// While one of them has no answer, so often.
const TRIED_EVERY: Duration = Duration::from_secs(5);
/// Without an answer for so long, it is shown.
const SHOWN_AFTER: Duration = Duration::from_secs(60);
/// So many in a row that have no answer end the round.
const MOST_WITHOUT: u32 = 3;

/// How far the following has come.
#[derive(Default)]
pub(super) struct Following {
    files: AccountFiles,
    /// When the last round began.
    asked: Option<Time>,
    /// A round is under way, and whether another is wanted after it.
    asking: bool,
    again: bool,
    /// Since when the user database gives no answer.
    silent_since: Option<Time>,
}

#[cfg(test)]
impl Following {
    /// As if much time had passed since the last round.
    pub(super) fn begin_anew(&mut self) {
        self.asked = None;
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Asks about all accounts anew: groups change. What was known stands until there is an answer.
    pub(super) fn ask_accounts(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        let following = &mut inner.uid_egress.following;
        if following.asking {
            following.again = true;
            return;
        }
        following.asking = true;
        // What the files say from here on is known after the round.
        following.files.changed();
        drop(inner);
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                daemon.ask_round().await;
                let mut inner = daemon.inner.borrow_mut();
                let following = &mut inner.uid_egress.following;
                if !std::mem::take(&mut following.again) {
                    following.asking = false;
                    return;
                }
            }
        });
    }

    /// At each tick: asks where something changed, or it is time.
    pub(super) fn follow_accounts(self: &Rc<Self>) {
        let now = now();
        let due = {
            let mut inner = self.inner.borrow_mut();
            let every = match inner.uid_egress.following.silent_since {
                Some(_) => TRIED_EVERY,
                None => ASKED_EVERY,
            };
            let following = &mut inner.uid_egress.following;
            let old = following.asked.is_none_or(|at| now.since(at) >= every);
            following.files.changed() || old
        };
        if due {
            self.ask_accounts();
        }
    }

    async fn ask_round(self: &Rc<Self>) {
        let uids = {
            let mut inner = self.inner.borrow_mut();
            inner.uid_egress.following.asked = Some(now());
            inner.server_uids()
        };
        let services = self.service_uids().await;
        let mut without = 0;
        for uid in uids {
            match self.units.account(uid).await {
                Ok(mut account) => {
                    account.service |= services.contains(&uid);
                    let mut inner = self.inner.borrow_mut();
                    inner.uid_egress.following.silent_since = None;
                    without = 0;
                    if inner.uid_egress.accounts.get(&uid) != Some(&account) {
                        inner.uid_egress.accounts.insert(uid, account);
                        inner.dirty = true;
                        self.outsiders_due.notify_one();
                    }
                }
                Err(NotNow) => {
                    let mut inner = self.inner.borrow_mut();
                    inner.uid_egress.following.silent_since.get_or_insert(now());
                    without += 1;
                    if without == MOST_WITHOUT {
                        return;
                    }
                }
            }
        }
    }

    /// The uids that the hub and its proxies run as.
    pub(super) async fn service_uids(&self) -> BTreeSet<u32> {
        let mut units = self.inner.borrow().config.hub.hub_units.clone();
        units.extend(PROXIES.map(str::to_owned));
        let mut uids = BTreeSet::new();
        for unit in units {
            // One that is not there runs as nobody.
            if let Ok(facts) = self.units.facts(&UnitName(unit)).await {
                uids.extend(facts.uid);
            }
        }
        uids
    }
}

impl Inner {
    /// What `status` says where the user database does not answer.
    pub(super) fn accounts_lack(&self, now: Time) -> Option<String> {
        let since = now.since(self.uid_egress.following.silent_since?);
        (since >= SHOWN_AFTER).then(|| {
            format!(
                "the user database (nsswitch.conf) has not answered for {} min: who may become \
                 root is taken as it was before",
                since.as_secs() / 60
            )
        })
    }
}
