//! Follows who may become root: accounts are asked about again when their files change, and every
//! minute, since a directory's groups change without a file's change.
//!
//! The user database may be a directory that is slow or away. One look-up is under way at a time,
//! beside the loop; while there is no answer the last one stands, and `status` says so.

use super::{Daemon, Shell, Tasks, now};
use crate::act::CpuControl;
use crate::hub::fronts::PROXIES;
use crate::hub::{Account, AccountFiles, NotNow, UnitName, Units};
use quantities::Time;
use std::collections::BTreeSet;
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
    pub(super) fn ask_accounts(&mut self) {
        let shell = &mut self.shell;
        let following = &mut shell.network.uid_egress.following;
        if following.asking {
            following.again = true;
            return;
        }
        following.asking = true;
        // What the files say from here on is known after the round.
        following.files.changed();
        self.tasks.begin(async |tasks| tasks.ask_rounds().await);
    }

    /// At each tick: asks where something changed, or it is time.
    pub(super) fn follow_accounts(&mut self) {
        let now = now();
        let due = {
            let shell = &mut self.shell;
            let every = match shell.network.uid_egress.following.silent_since {
                Some(_) => TRIED_EVERY,
                None => ASKED_EVERY,
            };
            let following = &mut shell.network.uid_egress.following;
            let old = following.asked.is_none_or(|at| now.since(at) >= every);
            following.files.changed() || old
        };
        if due {
            self.ask_accounts();
        }
    }

    /// Notes what an account is.
    fn note_account(&mut self, uid: u32, account: Account) {
        let uid_egress = &mut self.shell.network.uid_egress;
        uid_egress.following.silent_since = None;
        if uid_egress.accounts.get(&uid) != Some(&account) {
            uid_egress.accounts.insert(uid, account);
            self.shell.storage.dirty = true;
            self.shell.registry.changes += 1;
            self.due.network(now());
        }
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Asks about all accounts, and again for those who wanted that meanwhile.
    async fn ask_rounds(&self) {
        loop {
            self.ask_round().await;
            let again = self.turn(|daemon| {
                let following = &mut daemon.shell.network.uid_egress.following;
                following.asking = std::mem::take(&mut following.again);
                following.asking
            });
            if !again.await {
                return;
            }
        }
    }

    async fn ask_round(&self) {
        let begun = self.turn(|daemon| {
            let shell = &mut daemon.shell;
            shell.network.uid_egress.following.asked = Some(now());
            (shell.server_uids(), shell.config.hub.hub_units.clone())
        });
        let (uids, hub_units) = begun.await;
        let services = self.service_uids(hub_units).await;
        let mut without = 0;
        for uid in uids {
            match self.units.account(uid).await {
                Ok(mut account) => {
                    account.service |= services.contains(&uid);
                    without = 0;
                    self.turn(move |daemon| daemon.note_account(uid, account))
                        .await;
                }
                Err(NotNow) => {
                    self.post(|daemon| daemon.shell.network.uid_egress.following.no_answer(now()));
                    without += 1;
                    if without == MOST_WITHOUT {
                        return;
                    }
                }
            }
        }
    }

    /// The uids that the hub and its proxies run as.
    async fn service_uids(&self, hub_units: Vec<String>) -> BTreeSet<u32> {
        let units = hub_units.into_iter().chain(PROXIES.map(str::to_owned));
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

impl Following {
    fn no_answer(&mut self, now: Time) {
        self.silent_since.get_or_insert(now);
    }
}

impl Shell {
    /// What `status` says where the user database does not answer.
    pub(super) fn accounts_lack(&self, now: Time) -> Option<String> {
        let since = now.since(self.network.uid_egress.following.silent_since?);
        (since >= SHOWN_AFTER).then(|| {
            format!(
                "the user database (nsswitch.conf) has not answered for {} min: who may become \
                 root is taken as it was before",
                since.as_secs() / 60
            )
        })
    }
}
