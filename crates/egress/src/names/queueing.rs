//! How this kernel hands packets to a queue, and rules that do it so.

use crate::{
    Error, Netlink,
    class::Transport,
    encode, phrases as p,
    ruleset::{Expr, Ruleset, Verdict},
    table::{self, chain, rule},
    uapi::NFPROTO_INET,
};

/// How this kernel hands packets to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queueing {
    /// By the expression of nf_tables (`CONFIG_NFT_QUEUE`).
    Native,
    /// By the iptables target within nf_tables (`CONFIG_NFT_COMPAT` and
    /// `CONFIG_NETFILTER_XT_TARGET_NFQUEUE`).
    Target,
    /// Not at all.
    Missing,
}

/// Has a ruleset queue packets in the way this kernel knows. Where it knows none, nobody's
/// answers are held up, and those of classes with names are dropped.
pub fn queued_by(ruleset: &mut Ruleset, queueing: Queueing) {
    let exprs = ruleset
        .chains
        .iter_mut()
        .flat_map(|chain| &mut chain.rules)
        .flat_map(|rule| &mut rule.exprs);
    for expr in exprs {
        if let Expr::Queue { number, bypass } = *expr {
            *expr = match (queueing, bypass) {
                (Queueing::Native, _) => continue,
                (Queueing::Target, _) => Expr::QueueTarget { number, bypass },
                (Queueing::Missing, true) => Expr::Verdict(Verdict::Accept),
                (Queueing::Missing, false) => Expr::Verdict(Verdict::Drop),
            };
        }
    }
}

/// Which way of queueing packets the kernel takes: each is tried in a table that is made and taken
/// away within one transaction.
///
/// # Errors
/// [`Error::Socket`].
pub fn try_queueing(netlink: &mut Netlink) -> Result<Queueing, Error> {
    for queueing in [Queueing::Native, Queueing::Target] {
        let trial = trial(queueing, &format!("{}-probe", table::TABLE));
        let mut messages = encode::create(&trial)?;
        messages.extend(encode::remove(trial.family, &trial.table)?);
        match netlink.transact("try to queue packets", &messages) {
            Ok(()) => return Ok(queueing),
            Err(nft::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Queueing::Missing)
}

/// A table that queues packets in one way.
fn trial(queueing: Queueing, table: &str) -> Ruleset {
    let rules = vec![
        rule("", [p::protocol(Transport::Udp.number())]),
        rule(
            "",
            [vec![Expr::Queue {
                number: 0,
                bypass: true,
            }]],
        ),
    ];
    let mut ruleset = Ruleset {
        family: NFPROTO_INET,
        table: table.to_owned(),
        chains: vec![chain("trial", rules)],
        ..Ruleset::default()
    };
    queued_by(&mut ruleset, queueing);
    ruleset
}
