//! The uids that users may take in user namespaces: a job of theirs must not leave its class by one.

use super::Shell;
use crate::hub::subordinate_uids;
use egress::UidRules;
use std::collections::BTreeSet;

/// So many bytes of the file are read: some tens of thousands of lines.
const MOST: usize = 1 << 20;

impl Shell {
    /// Adds them for those who are judged. A range with an account's uid in it is passed over: a directory
    /// gives uids away without a look at the file.
    pub(super) fn add_subordinate(&self, uid_rules: &mut UidRules) {
        let uids = &self.network.uid_egress;
        let Ok(text) = std::fs::read_to_string(&uids.subuid) else {
            return;
        };
        let text = text.get(..MOST).unwrap_or(&text);
        let mut accounts = self.server_uids();
        accounts.extend(self.session_uids());
        let taken = |first, last| accounts.range(first..=last).next().is_some();
        let judged: Vec<(u32, u32)> = uid_rules
            .by_uid
            .values()
            .map(|one| (one.uid, one.number))
            .collect();
        for (uid, number) in judged {
            let account = uids.accounts.get(&uid);
            let name = account.and_then(|account| account.name.as_deref());
            for (first, last) in subordinate_uids(text, name, uid) {
                if !taken(first, last) {
                    uid_rules.add_subordinate(first, last, number);
                }
            }
        }
    }

    /// The uids that have a slice of their own: who is logged in, or lingers.
    fn session_uids(&self) -> BTreeSet<u32> {
        let members = self.registry.tree.members().keys();
        members
            .filter_map(super::user_slices::uid_of_cgroup)
            .collect()
    }
}
