//! What senders are known by, where packets fill sets with what is counted, limited or noted of each.
//!
//! Such a set is keyed by what a packet itself shows, and there is one for each way of knowing. A
//! number that a map gives would be one key for all; but the nft program (1.0.6, Debian's) takes a
//! mapped value for one of no length, and ends itself when it lists a rule with such a key
//! (`netlink_parse_concat_key: Assertion 'consumed > 0'`). An admin's program must not.

use super::{
    CgroupId,
    filled::Filled,
    installed::Installed,
    phrases::{self as p, Family},
    ruleset::{Expr, Rule, Set},
    sets::{self, LEVELS},
    table::rule,
    uapi::*,
};

/// What a sender is known by, and a key begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// The cgroup of its socket: a server, or a user's slice.
    Cgroup,
    /// The owner of its socket: a user outside both.
    Uid,
    /// The mark that its port gave it: a container, where it is routed.
    Mark,
    /// The port of a bridge that it is behind: a container, on the bridge.
    Port,
}

/// One sender, as the elements of a table know it: it lasts as long as the table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Sender {
    /// The id of a server's cgroup, or of a user's slice.
    Cgroup(u64),
    /// A uid outside both.
    Uid(u32),
    /// The mark of a container.
    Mark(u32),
    /// The index of the bridge port that a container is behind.
    Port(u32),
}

impl Known {
    /// Those with sockets on this node.
    pub const HERE: [Self; 2] = [Self::Cgroup, Self::Uid];
    /// Those whose packets the table of the family `inet` judges.
    pub const JUDGED: [Self; 3] = [Self::Cgroup, Self::Uid, Self::Mark];

    /// The set for those who are known so; a class's has its name at the end.
    pub fn set(self, name: &str, class: &str) -> String {
        let whose = match self {
            Self::Cgroup | Self::Port => "",
            Self::Uid => "_outside",
            Self::Mark => "_contained",
        };
        match class {
            "" => format!("{name}{whose}"),
            class => format!("{name}{whose}_{class}"),
        }
    }

    /// The nft program's type of it.
    pub fn key_type(self) -> u32 {
        match self {
            Self::Cgroup => TYPE_CGROUPV2,
            Self::Uid => TYPE_UID,
            Self::Mark => TYPE_MARK,
            Self::Port => TYPE_IFINDEX,
        }
    }

    /// Its bytes in a key.
    pub fn len(self) -> u8 {
        match self {
            Self::Cgroup => 8,
            Self::Uid | Self::Mark | Self::Port => 4,
        }
    }

    /// What loads it as a key, or its first part, for each way in which there may be one. `incoming` is
    /// whether the packet comes in by a port, or goes out by it.
    pub fn keys(self, incoming: bool) -> Vec<Vec<Expr>> {
        match self {
            // Only at the level that a server is at: its slice would be taken for it else.
            Self::Cgroup => LEVELS
                .map(|level| p::cgroup_known_to(level, &sets::marks(level)))
                .into(),
            Self::Uid => vec![p::its_uid()],
            Self::Mark => vec![p::its_mark()],
            Self::Port => vec![p::its_port(incoming)],
        }
    }

    /// A packet of this family, in the table where senders are known so.
    pub fn of_family(self, family: Family) -> Vec<Expr> {
        match self {
            Self::Cgroup | Self::Uid | Self::Mark => p::of_family(family),
            // There `meta nfproto` is the bridge's own.
            Self::Port => super::bridges::of_family(family),
        }
    }

    /// The rules that have what is sent or received, of those who are known so, be an element of a set
    /// that has a check of its own; what that matches goes on with `then`.
    pub fn each(
        self,
        incoming: bool,
        (condition, comment): (&[Expr], &str),
        (set, check): (&str, &Expr),
        then: &dyn Fn() -> Vec<Expr>,
    ) -> Vec<Rule> {
        let one = |key: Vec<Expr>| {
            let counted = p::update(set, check.clone());
            rule(comment, [condition.to_vec(), key, counted, then()])
        };
        self.keys(incoming).into_iter().map(one).collect()
    }

    /// A set that packets fill with it, each element with a check of its own.
    pub fn counting(self, filled: Filled, class: &str) -> Set {
        let name = self.set(filled.as_str(), class);
        filled.set(&name, self.key_type(), self.len().into())
    }

    /// The sender that a key names.
    pub fn sender(self, key: &[u8]) -> Option<Sender> {
        let word = || Some(u32::from_ne_bytes(key.try_into().ok()?));
        Some(match self {
            Self::Cgroup => Sender::Cgroup(u64::from_ne_bytes(key.try_into().ok()?)),
            Self::Uid => Sender::Uid(word()?),
            Self::Mark => Sender::Mark(word()?),
            Self::Port => Sender::Port(word()?),
        })
    }

    /// Whom a key names. Who has gone since, or is judged no more, is nobody.
    pub fn number(self, installed: &Installed, key: &[u8]) -> Option<u32> {
        let word = || Some(u32::from_ne_bytes(key.try_into().ok()?));
        match self {
            Self::Cgroup => {
                let cgroup = CgroupId(u64::from_ne_bytes(key.try_into().ok()?));
                installed.number_of(cgroup)
            }
            Self::Uid => Some(installed.uid_rules().by_uid.get(&word()?)?.number),
            Self::Mark => Some(word()? & !p::MARK_MASK),
            Self::Port => Some(installed.bridges().servers.get(&word()?)?.number),
        }
    }
}
