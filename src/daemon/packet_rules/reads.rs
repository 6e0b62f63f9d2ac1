//! What the packet rules counted.

use super::PacketRules;
use egress::{Attempts, Error, Policy, Refused, Sender, Sent, Traffic};
use std::time::Duration;

impl PacketRules {
    /// What admitted servers sent. What is wrong with the table is the next check's to find.
    pub fn sent(&mut self) -> Option<Vec<Sent>> {
        self.installed.as_ref()?;
        self.firewall.sent().ok()
    }

    /// What servers with a daily share had.
    pub fn traffic(&mut self) -> Option<Vec<Traffic>> {
        self.installed.as_ref()?;
        self.firewall.traffic().ok()
    }

    /// The same of the table that an earlier daemon left, before one is loaded.
    pub fn left_traffic(&mut self, policy: &Policy) -> Result<Vec<(Sender, u64)>, Error> {
        self.firewall.left_traffic(policy)
    }

    /// What was refused since this was asked last.
    pub fn refused(&mut self) -> Vec<Refused> {
        match self.installed {
            Some(_) => self.firewall.refused().unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// Senders that try many hosts or ports in vain.
    pub fn attempts(&mut self, least: usize, since: Duration) -> Vec<Attempts> {
        match self.installed {
            Some(_) => self.firewall.attempts(least, since).unwrap_or_default(),
            None => Vec::new(),
        }
    }
}
