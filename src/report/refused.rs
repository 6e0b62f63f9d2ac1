//! A refused packet in words.

use super::{Kind, Level, LogEntry};
use crate::hub::Spawner;
use egress::{Abuse, ClassName, Limit, Refusal, RefusedBy};
use quantities::HubUser;
use quantities::Mode;

/// What a user runs outside the server, known by its uid alone, was refused something.
pub fn refused_outside(user: &HubUser, uid: u32, mode: Mode, refusal: &Refusal) -> LogEntry {
    let entry = |message| outside(Kind::EgressRefused, user, uid, mode, message);
    refused(refusal, &whose_outside(user, uid), mode, entry)
}

/// So many packets of it were refused, and nothing else was logged of them.
pub fn not_logged_outside(user: &HubUser, uid: u32, mode: Mode, packets: u64) -> LogEntry {
    let entry = |message| outside(Kind::EgressRefused, user, uid, mode, message);
    not_logged(packets, &whose_outside(user, uid), mode, entry)
}

pub(super) fn whose_outside(user: &HubUser, uid: u32) -> String {
    format!("what {user} runs outside the server, as uid {uid},")
}

pub(super) fn outside(
    kind: Kind,
    user: &HubUser,
    uid: u32,
    mode: Mode,
    message: String,
) -> LogEntry {
    LogEntry::new(kind, Level::Notice, message)
        .with("HUB_USER", user.as_str())
        .with("HUB_SERVER", "")
        .with("HUB_SPAWNER", Spawner::Login.as_str())
        .with("SENDER_UID", uid)
        .with("VERDICT_MODE", mode)
}

/// Packets without a line of their own in words, `entry` being the beginning of what is told.
pub(super) fn not_logged(
    packets: u64,
    whose: &str,
    mode: Mode,
    entry: impl FnOnce(String) -> LogEntry,
) -> LogEntry {
    let were = match mode {
        Mode::Enforce => "were",
        Mode::Observe => "would have been",
    };
    let message = format!("{packets} packets of {whose} {were} refused without a line for each.");
    entry(message).with("NOT_LOGGED", packets)
}

/// The refusal in words, `entry` being the beginning of what is told.
pub(super) fn refused(
    refusal: &Refusal,
    whose: &str,
    mode: Mode,
    entry: impl FnOnce(String) -> LogEntry,
) -> LogEntry {
    let protocol = match refusal.protocol {
        1 | 58 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "another protocol",
    };
    let target = match refusal.port {
        Some(port) => format!(
            "{protocol} port {port} of {}",
            refusal.destination.to_canonical()
        ),
        None => format!("{protocol} to {}", refusal.destination.to_canonical()),
    };
    let why = match &refusal.by {
        RefusedBy::Class(class) if *class == ClassName::spent() => {
            "it has had its bytes for today".to_owned()
        }
        RefusedBy::Class(class) => format!("egress class {class} does not allow it"),
        RefusedBy::Private(class) => format!(
            "it is in a private network, and egress class {class} reaches those only that it names; \
             to open it, add it to `networks` of the class"
        ),
        RefusedBy::List(list) => format!("deny list {list} names it"),
        RefusedBy::Limit(Limit::NewConnections, class) => {
            format!("it opens connections faster than egress class {class} allows")
        }
        RefusedBy::Limit(Limit::Connections, class) => {
            format!("it has as many connections open as egress class {class} allows")
        }
        RefusedBy::Abuse(Abuse::Connections) => {
            "it begins more connections than any server may".to_owned()
        }
        RefusedBy::Abuse(Abuse::Packets) => "it sends more packets than any server may".to_owned(),
        RefusedBy::Abuse(Abuse::Questions) => {
            "it asks for names faster than any server may".to_owned()
        }
        RefusedBy::Abuse(Abuse::Entries) => {
            "it fills as much of the kernel's connection table as one \
             server may, a quarter of net.netfilter.nf_conntrack_max"
                .to_owned()
        }
        RefusedBy::Loopback => "on this node somebody else listens there".to_owned(),
        RefusedBy::Pending => "the server was not known yet".to_owned(),
        RefusedBy::Subordinate => "a job sent it under a uid of /etc/subuid".to_owned(),
        RefusedBy::Container => "it belongs to another container".to_owned(),
        RefusedBy::Spoofed => "it was sent from an address that is not its own".to_owned(),
    };
    let message = match mode {
        Mode::Enforce => format!("{} was refused {target}: {why}.", whose),
        Mode::Observe => format!(
            "{} would have been refused {target} (observe mode: it was let through): \
             {why}.",
            whose
        ),
    };
    let entry = entry(message)
        .with("REASON", why)
        .with("DESTINATION", refusal.destination.to_canonical())
        .with("PROTOCOL", protocol);
    let entry = match &refusal.by {
        RefusedBy::Limit(limit, class) => entry
            .with("EGRESS_CLASS", class)
            .with("EGRESS_LIMIT", limit.as_str()),
        RefusedBy::Class(class) | RefusedBy::Private(class) => entry.with("EGRESS_CLASS", class),
        RefusedBy::List(list) => entry.with("EGRESS_LIST", list),
        RefusedBy::Abuse(abuse) => entry.with("EGRESS_LIMIT", abuse.as_str()),
        RefusedBy::Loopback
        | RefusedBy::Pending
        | RefusedBy::Subordinate
        | RefusedBy::Container
        | RefusedBy::Spoofed => entry,
    };
    match refusal.port {
        Some(port) => entry.with("PORT", port),
        None => entry,
    }
}
