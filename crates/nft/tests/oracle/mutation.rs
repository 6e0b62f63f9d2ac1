//! Bytes that a faulty codec might have written, and whether libnftnl sees them.

use nft::{
    encode,
    message::{self, Replies},
    ruleset::{Expr, Ruleset},
    uapi::*,
};
use nix::sys::socket::MsgFlags;

use crate::{any::TABLE, apart, ordered, queueing::Queueing, read, ruleset, socket::Netlink};

const HEADERS: usize = NLMSG_HDRLEN + 4;

/// How many bytes were changed, by who noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    /// The kernel refused them.
    pub refused: usize,
    /// libnftnl read something else.
    pub read_otherwise: usize,
}

/// Changes one byte after the other of the rules of some rulesets, sends them to the kernel and has
/// libnftnl read what stands then. Panics at one that made no difference.
pub fn all_noticed() -> Noticed {
    let mut noticed = Noticed::default();
    let queueing = apart(Queueing::of_this_kernel);
    for seed in 0..6 {
        let mut ruleset = ruleset(seed, queueing);
        for chain in &mut ruleset.chains {
            // Of what these ask for the kernel keeps one byte of four (`result:8` in `struct nft_fib`). What comes
            // behind needs what they load.
            let asks_routes = |expr: &Expr| matches!(expr, Expr::Fib { .. } | Expr::FibName { .. });
            chain
                .rules
                .retain(|rule| !rule.exprs.iter().any(asks_routes));
            for rule in &mut chain.rules {
                rule.exprs.retain(|expr| !has_idle_bytes(expr));
            }
        }
        let batch = message::batch(&encode::create(&ruleset).unwrap(), 1);
        let wanted = ordered(ruleset.clone());
        let right = apart(|| send_and_read(&batch, &ruleset));
        assert!(right.as_ref() == Some(&wanted), "ruleset {seed} as it is");
        let places = values_of_rules(&batch);
        for place in places.iter().step_by(7) {
            let mut wrong = batch.clone();
            wrong[*place] ^= 1 << (place % 8);
            let found = apart(|| send_and_read(&wrong, &ruleset));
            assert!(
                found.as_ref() != Some(&wanted),
                "ruleset {seed}: byte {place} can be {:#04x} or {:#04x}, behind {}",
                batch[*place],
                wrong[*place],
                batch[place.saturating_sub(64)..*place].escape_ascii(),
            );
            match found {
                None => noticed.refused += 1,
                Some(_) => noticed.read_otherwise += 1,
            }
        }
    }
    noticed
}

/// Whether some bytes of an expression make no difference.
fn has_idle_bytes(expr: &Expr) -> bool {
    match expr {
        // Where a counter begins is not compared.
        Expr::Counter => true,
        // The kernel keeps times in its own ticks.
        Expr::Update {
            expr, timeout_ms, ..
        } => *timeout_ms > 0 || expr.as_deref().is_some_and(has_idle_bytes),
        // The end of `struct xt_NFQ_info_v3` is padding.
        Expr::QueueTarget { .. } => true,
        _ => false,
    }
}

/// What libnftnl reads, if the kernel took the bytes.
fn send_and_read(batch: &[u8], ruleset: &Ruleset) -> Option<Ruleset> {
    let mut netlink = Netlink::open().unwrap();
    netlink.socket.send(batch).unwrap();
    let mut refused = false;
    while let Ok(replies) = netlink.receive(MsgFlags::MSG_DONTWAIT) {
        for reply in replies.flatten() {
            // The kind, and the errno behind the header.
            let error = u16::from_ne_bytes([reply[4], reply[5]]) == NLMSG_ERROR;
            refused |= error && reply[16..20] != [0; 4];
        }
    }
    if refused {
        return None;
    }
    let found = read::ruleset(&mut netlink, ruleset.family, TABLE);
    found.unwrap_or(None).map(ordered)
}

/// The places of the bytes of all values of attributes of rules.
fn values_of_rules(batch: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut start = 0;
    for reply in Replies(batch) {
        let end = start + NLMSG_HDRLEN + reply.payload.len();
        if reply.is_nft(NFT_MSG_NEWRULE) {
            values(batch, start + HEADERS, end, &mut places);
        }
        start = end.next_multiple_of(4);
    }
    places
}

fn values(batch: &[u8], mut from: usize, to: usize, places: &mut Vec<usize>) {
    while from + 4 <= to {
        let number = |at: usize| u16::from_ne_bytes([batch[at], batch[at + 1]]);
        let (length, kind) = (usize::from(number(from)), number(from + 2));
        let (first, end) = (from + 4, from + length);
        match kind & NLA_F_NESTED {
            0 => places.extend(first..end),
            _ => values(batch, first, end, places),
        }
        from = end.next_multiple_of(4);
    }
}
