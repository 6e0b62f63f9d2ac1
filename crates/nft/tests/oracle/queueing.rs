//! How this kernel queues packets.

use nft::{Netlink, encode, ruleset::*};

use crate::any::TABLE;

/// The ways, of which a kernel may have neither.
#[derive(Clone, Copy, Debug)]
pub enum Queueing {
    /// `CONFIG_NFT_QUEUE`.
    Native,
    /// `CONFIG_NFT_COMPAT` with `CONFIG_NETFILTER_XT_TARGET_NFQUEUE`.
    Target,
    Missing,
}

impl Queueing {
    /// Tries them in the network namespace it is called in.
    pub fn of_this_kernel() -> Self {
        let (number, bypass) = (0, true);
        let ways = [
            (Self::Native, Expr::Queue { number, bypass }),
            (Self::Target, Expr::QueueTarget { number, bypass }),
        ];
        let mut netlink = Netlink::open().unwrap();
        for (way, expr) in ways {
            let rule = Rule {
                exprs: vec![expr],
                comment: String::new(),
            };
            let ruleset = Ruleset {
                family: nft::uapi::NFPROTO_INET,
                table: TABLE.to_owned(),
                chains: vec![Chain {
                    name: "trial".to_owned(),
                    hook: None,
                    device: None,
                    rules: vec![rule],
                }],
                ..Ruleset::default()
            };
            let mut messages = encode::create(&ruleset).unwrap();
            messages.extend(encode::remove(ruleset.family, TABLE).unwrap());
            if netlink.transact("try it", &messages).is_ok() {
                return way;
            }
        }
        Self::Missing
    }

    /// Has a ruleset queue packets as this kernel does.
    pub fn apply(self, ruleset: &mut Ruleset) {
        let inet = ruleset.family == nft::uapi::NFPROTO_INET;
        let rules = ruleset.chains.iter_mut().flat_map(|chain| &mut chain.rules);
        for expr in rules.flat_map(|rule| &mut rule.exprs) {
            if let Expr::Queue { number, bypass } = *expr {
                *expr = match self {
                    Self::Native => continue,
                    Self::Target if inet => Expr::QueueTarget { number, bypass },
                    Self::Target | Self::Missing => Expr::Verdict(Verdict::Accept),
                };
            }
        }
    }
}
