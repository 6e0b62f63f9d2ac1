//! What the table's elements counted.

use std::time::Duration;

use nft::decode::Count;
use nix::errno::Errno;

use super::Kernel;
use crate::{
    Admitted, Attempts, CgroupId, Error, Policy, Sent, Traffic, attempts, bridges, limits,
    readback,
    senders::{Known, Sender},
    sets, table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};

impl Kernel {
    /// What servers sent, by the elements that lead to their classes.
    pub(super) fn all_sent(&mut self) -> Result<Vec<Sent>, Error> {
        self.installed("read the servers' counters")?;
        let mut sent = Vec::new();
        for level in sets::LEVELS {
            let counts = readback::counts(
                &mut self.netlink,
                NFPROTO_INET,
                table::TABLE,
                &sets::servers(level),
            )?;
            sent.extend(counts.into_iter().filter_map(|count| {
                let cgroup = CgroupId(u64::from_ne_bytes(count.key.try_into().ok()?));
                Some(Sent {
                    cgroup,
                    packets: count.packets,
                    bytes: count.bytes,
                })
            }));
        }
        self.sent_by_containers(&mut sent)?;
        Ok(sent)
    }

    /// What servers of classes with a daily share sent and received.
    pub(super) fn all_traffic(&mut self) -> Result<Vec<Traffic>, Error> {
        let Some(installed) = &self.installed else {
            let attempt = "read the servers' traffic";
            return Err(Error::NotLoaded { attempt });
        };
        let judged = Known::JUDGED.map(|known| (NFPROTO_INET, known));
        // What containers receive is counted on their bridges.
        let bridged = !installed.bridges().is_empty();
        let received = bridged.then_some((NFPROTO_BRIDGE, Known::Port));
        let mut traffic = Vec::new();
        for (family, known) in judged.into_iter().chain(received) {
            for set in limits::traffic_sets(installed.policy(), known) {
                let counts = readback::counts(&mut self.netlink, family, table::TABLE, &set)?;
                traffic.extend(counts.into_iter().filter_map(|count| {
                    Some(Traffic {
                        sender: known.sender(&count.key)?,
                        number: known.number(installed, &count.key)?,
                        bytes: count.bytes,
                    })
                }));
            }
        }
        Ok(traffic)
    }

    /// What a table that this one did not load counted. A class that it did not have has no set.
    pub(super) fn traffic_left(&mut self, policy: &Policy) -> Result<Vec<(Sender, u64)>, Error> {
        let mut left = Vec::new();
        let judged = Known::JUDGED.map(|known| (NFPROTO_INET, known));
        for (family, known) in judged.into_iter().chain([(NFPROTO_BRIDGE, Known::Port)]) {
            for set in limits::traffic_sets(policy, known) {
                match readback::counts(&mut self.netlink, family, table::TABLE, &set) {
                    Ok(counts) => left.extend(
                        counts
                            .into_iter()
                            .filter_map(|count| Some((known.sender(&count.key)?, count.bytes))),
                    ),
                    Err(nft::Error::Refused {
                        errno: Errno::ENOENT,
                        ..
                    }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(left)
    }

    /// Adds up what was refused. An earlier daemon's servers had other numbers: nothing is read of
    /// a table that this one did not load.
    pub(super) fn read_refused(&mut self) -> Result<(), Error> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        self.refused.read(&mut self.netlink, installed)
    }

    /// Whom senders lately tried to reach in vain.
    pub(super) fn all_attempts(
        &mut self,
        least: usize,
        since: Duration,
    ) -> Result<Vec<Attempts>, Error> {
        let Some(installed) = &self.installed else {
            let attempt = "read whom servers tried to reach";
            return Err(Error::NotLoaded { attempt });
        };
        attempts::read(&mut self.netlink, installed, least, since)
    }

    /// Adds what came in by containers' ports to what their cgroups sent.
    fn sent_by_containers(&mut self, sent: &mut Vec<Sent>) -> Result<(), Error> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        if installed.bridges().servers.is_empty() {
            return Ok(());
        }
        let counts = readback::counts(
            &mut self.netlink,
            NFPROTO_INET,
            table::TABLE,
            bridges::CONTAINED,
        )?;
        for Count {
            key,
            packets,
            bytes,
        } in counts
        {
            let Ok(mark) = key.try_into().map(u32::from_ne_bytes) else {
                continue;
            };
            let number = mark & Admitted::NUMBER_MAX;
            let mut ports = installed.bridges().servers.values();
            let Some(port) = ports.find(|port| port.number == number) else {
                continue;
            };
            match sent.iter_mut().find(|sent| sent.cgroup == port.cgroup) {
                Some(known) => {
                    known.packets = known.packets.saturating_add(packets);
                    known.bytes = known.bytes.saturating_add(bytes);
                }
                None => sent.push(Sent {
                    cgroup: port.cgroup,
                    packets,
                    bytes,
                }),
            }
        }
        Ok(())
    }
}
