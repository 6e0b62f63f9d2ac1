//! Whether others have the kernel track connections, found by trying: a datagram to oneself leaves an
//! entry, or none. That holds whatever they do it with: nft, iptables, an engine.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    num::NonZeroU32,
    path::Path,
    time::Duration,
};

use nft::{conntrack, sock_diag::UDP};

use super::Kernel;
use crate::{Tracking, readback, table, tracking, uapi::NFPROTO_INET};

const SYSCTLS: &str = "/proc/sys/net/netfilter";
/// The tables of the older iptables of this network namespace, by family.
const LEGACY: [&str; 2] = ["ip_tables_names", "ip6_tables_names"];
/// One sender may fill so much of the table: one part in so many. Four have to act together to fill it.
const SHARE: u32 = 4;
/// How often in a row flows have to be found tracked after rules of ours tracked them: the kernel goes on
/// for a moment after those are gone.
const LOOKS: u8 = 2;
const PATIENCE: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// How often in a row flows were tracked, none of our rules tracking them.
    tracked: u8,
    /// Rules of ours had them tracked not long ago.
    by_ours: bool,
    begun: bool,
}

impl Kernel {
    /// Looks whether others have connections tracked. Under a millisecond.
    pub(super) fn look_at_tracking(&mut self) -> Tracking {
        let most = number("nf_conntrack_max").and_then(|most| NonZeroU32::new(most / SHARE));
        let by_others = self.others_track();
        Tracking { by_others, most }
    }

    fn others_track(&mut self) -> bool {
        if let Some(installed) = &self.installed
            && tracking::is_used(installed.policy())
        {
            // By trying it cannot be told: the rules that stand have all tracked.
            self.looks.by_ours = true;
            self.looks.tracked = 0;
            return installed.policy().tracking.by_others;
        }
        if !self.looks.begun {
            self.looks.begun = true;
            // A daemon before this one may have loaded rules of any kind.
            self.looks.by_ours = readback::stands(&mut self.netlink, NFPROTO_INET, table::TABLE);
        }
        let translated = readback::others_translate(&mut self.netlink, table::TABLE);
        if translated.unwrap_or(true) || legacy_translates() {
            return true;
        }
        if !loopback_is_tracked() {
            self.looks.tracked = 0;
            self.looks.by_ours = false;
            return false;
        }
        self.looks.tracked = self.looks.tracked.saturating_add(1);
        !self.looks.by_ours || self.looks.tracked > LOOKS
    }
}

fn number(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new(SYSCTLS).join(name)).ok()?;
    text.trim().parse().ok()
}

fn legacy_translates() -> bool {
    LEGACY.iter().any(|name| {
        let names = fs::read_to_string(Path::new("/proc/thread-self/net").join(name));
        names.is_ok_and(|names| names.lines().any(|table| table == "nat"))
    })
}

fn loopback_is_tracked() -> bool {
    // Without it the module is not loaded, and the question would load it.
    if number("nf_conntrack_count").is_none() {
        return false;
    }
    let families: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    families.into_iter().any(is_tracked_at)
}

fn is_tracked_at(address: IpAddr) -> bool {
    let bound = || {
        let socket = UdpSocket::bind((address, 0)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        Some((socket.local_addr().ok()?, socket))
    };
    // A family that is not there is not tracked.
    let (Some((from, sender)), Some((to, receiver))) = (bound(), bound()) else {
        return false;
    };
    let mut byte = [0];
    let arrived = sender.send_to(&byte, to).is_ok() && receiver.recv(&mut byte).is_ok();
    // What another's firewall drops, or does not fit into the table, leaves no entry: then it is not known.
    !arrived || conntrack::is_tracked(UDP, from, to).unwrap_or(true)
}
