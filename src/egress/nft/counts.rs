//! What the table's elements counted.

use super::Nft;
use crate::egress::{
    Admitted, CgroupId, Error, Sent, Traffic, bridges, limits, phrases, readback, sets, table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};

impl Nft {
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
            sent.extend(counts.into_iter().filter_map(|(key, packets, bytes)| {
                let cgroup = CgroupId(u64::from_ne_bytes(key.try_into().ok()?));
                Some(Sent {
                    cgroup,
                    packets,
                    bytes,
                })
            }));
        }
        self.sent_by_containers(&mut sent)?;
        Ok(sent)
    }

    /// What servers of classes with a daily share sent and received.
    pub(super) fn all_traffic(&mut self) -> Result<Vec<Traffic>, Error> {
        let installed = self.installed("read the servers' traffic")?;
        let sets: Vec<String> = limits::traffic_sets(installed.policy()).collect();
        // What containers receive is counted on their bridges.
        let bridged = (!installed.bridges().is_empty()).then_some(NFPROTO_BRIDGE);
        let mut traffic = Vec::new();
        for family in [NFPROTO_INET].into_iter().chain(bridged) {
            for set in &sets {
                let counts = readback::counts(&mut self.netlink, family, table::TABLE, set)?;
                traffic.extend(counts.into_iter().filter_map(|(key, _, bytes)| {
                    let mark = u32::from_ne_bytes(key.try_into().ok()?);
                    let number = mark & !phrases::MARK_MASK;
                    Some(Traffic { number, bytes })
                }));
            }
        }
        Ok(traffic)
    }

    /// Adds up what was refused. An earlier daemon's servers had other numbers: nothing is read of
    /// a table that this one did not load.
    pub(super) fn read_refused(&mut self) -> Result<(), Error> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let bridges = !installed.bridges().is_empty();
        self.refused.read(&mut self.netlink, bridges)
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
        for (key, packets, bytes) in counts {
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
