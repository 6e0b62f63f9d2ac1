//! What stands beside what should.

use crate::egress::{
    Audited, Difference, DifferenceKind, Error,
    installed::Installed,
    names::{self, Queueing},
    readback,
    ruleset::Ruleset,
    socket::Netlink,
    table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};

/// What should stand, of both families.
pub(super) fn rulesets(
    installed: &Installed,
    flags: u32,
    queueing: Option<Queueing>,
) -> (Ruleset, Option<Ruleset>) {
    let owned = |ruleset| Ruleset { flags, ..ruleset };
    let mut inet = installed.ruleset();
    names::queued_by(&mut inet, queueing.unwrap_or(Queueing::Missing));
    (owned(inet), installed.bridge_ruleset().map(owned))
}

pub(super) fn verify(
    netlink: &mut Netlink,
    (inet, bridge): &(Ruleset, Option<Ruleset>),
    bridging: bool,
) -> Result<Audited, Error> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let (generation, found) = readback::read(netlink, NFPROTO_INET, table::TABLE)?;
        let mut differences = readback::compare(inet, found.as_ref());
        if bridging {
            let (again, found) = readback::read(netlink, NFPROTO_BRIDGE, table::TABLE)?;
            if again != generation {
                continue;
            }
            let on_bridges = match (bridge, found) {
                (Some(bridge), found) => readback::compare(bridge, found.as_ref()),
                (None, None) => Vec::new(),
                (None, Some(_)) => vec![Difference {
                    object: format!("table {}", table::TABLE),
                    kind: DifferenceKind::Foreign,
                }],
            };
            differences.extend(on_bridges.into_iter().map(|difference| Difference {
                object: format!("{} (bridge)", difference.object),
                ..difference
            }));
        }
        return Ok(Audited {
            generation,
            differences,
        });
    }
    Err(Error::Unsettled {
        attempt: "read the egress tables",
        tries: TRIES,
    })
}
