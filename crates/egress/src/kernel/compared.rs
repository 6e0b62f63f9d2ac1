//! What stands beside what should.

use super::Kernel;
use crate::{
    Audited, Difference, DifferenceKind, Error, Netlink, Since,
    installed::Installed,
    names::{self, Queueing},
    readback,
    ruleset::Ruleset,
    table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET, NFPROTO_NETDEV},
};

const ATTEMPT: &str = "read the egress table";

/// The tables that should stand, by family; none where one should not be there.
pub(super) type Expected = Vec<(u8, Option<Ruleset>)>;

impl Kernel {
    /// The tables as this kernel can have them.
    pub(super) fn rulesets(&mut self, installed: &Installed) -> Expected {
        let flags = self.flags;
        let owned = |ruleset| Ruleset { flags, ..ruleset };
        let mut inet = installed.ruleset();
        names::queued_by(&mut inet, self.queueing.unwrap_or(Queueing::Missing));
        if self.labels == Some(false) {
            names::without_labels(&mut inet);
        }
        let mut rulesets = vec![(NFPROTO_INET, Some(owned(inet)))];
        if self.bridging().is_ok() {
            rulesets.push((NFPROTO_BRIDGE, installed.bridge_ruleset().map(owned)));
        }
        let netdev = installed.netdev_ruleset().map(owned);
        if netdev.is_some() || readback::stands(&mut self.netlink, NFPROTO_NETDEV, table::TABLE) {
            rulesets.push((NFPROTO_NETDEV, netdev));
        }
        rulesets
    }
}

/// How the tables differ from what was installed at that moment, all read at the same generation.
pub(super) fn verify(
    netlink: &mut Netlink,
    expected: &Expected,
    since: &Since,
) -> Result<Audited, Error> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        if let Some(audited) = verify_once(netlink, expected, since)? {
            return Ok(audited);
        }
    }
    let (attempt, tries) = ("read the egress tables", TRIES);
    Err(nft::Error::Unsettled { attempt, tries }.into())
}

/// `None` if something was changed between two tables.
fn verify_once(
    netlink: &mut Netlink,
    expected: &Expected,
    since: &Since,
) -> Result<Option<Audited>, Error> {
    let mut audited: Option<Audited> = None;
    for (family, expected) in expected {
        let (generation, found) = readback::read(netlink, ATTEMPT, *family, table::TABLE, since)?;
        let audited = audited.get_or_insert_with(|| Audited {
            generation,
            differences: Vec::new(),
        });
        if audited.generation != generation {
            return Ok(None);
        }
        let differences = match (expected, found) {
            (Some(expected), found) => {
                readback::compare(expected, found.as_ref(), !since.has_asides())
            }
            (None, None) => Vec::new(),
            (None, Some(_)) => vec![Difference {
                object: format!("table {}", table::TABLE),
                kind: DifferenceKind::Foreign,
            }],
        };
        let whose = match *family {
            NFPROTO_BRIDGE => " (bridge)",
            NFPROTO_NETDEV => " (netdev)",
            _ => "",
        };
        let named = differences.into_iter().map(|difference| Difference {
            object: format!("{}{whose}", difference.object),
            ..difference
        });
        audited.differences.extend(named);
    }
    Ok(audited)
}
