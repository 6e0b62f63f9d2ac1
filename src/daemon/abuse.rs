//! Once a tick: who abuses the network.
//!
//! What is seen at two ticks in a row is told: a scan and a flood last, an accident does not.

use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::cgroup::CgroupId;
use crate::egress::FanOut;
use crate::evidence::senses::Found;
use crate::evidence::{Evidence, Fact, scan};
use crate::hub::Units;
use crate::report::{Entry as Told, Kind, Level};
use crate::units::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What was seen at the last tick.
#[derive(Default)]
pub(super) struct Abuse {
    /// Who was seen at the tick before.
    scanned: BTreeSet<CgroupId>,
    flooded: BTreeSet<CgroupId>,
    trouble: bool,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Looks for connections that are not answered, and packets in great number.
    pub(super) fn watch_abuse(self: &Rc<Self>, now: Time) {
        let mut inner = self.inner.borrow_mut();
        if inner.off {
            return;
        }
        let mut found = inner.scans();
        found.extend(inner.floods());
        drop(inner);
        for (id, fact) in found {
            self.abused(id, fact, now);
        }
    }

    /// Takes in a fact about a server as a whole.
    pub(super) fn abused(self: &Rc<Self>, id: CgroupId, fact: Fact, now: Time) {
        let evidence = Evidence {
            fact,
            pid: Evidence::NO_PROCESS,
            at: now,
        };
        self.found(&[Found { id: id.0, evidence }], now);
    }
}

impl Inner {
    fn scans(&mut self) -> Vec<(CgroupId, Fact)> {
        let seen = match FanOut::from_hosts(scan::HOSTS) {
            Ok(seen) => seen,
            Err(error) => {
                if !std::mem::replace(&mut self.abuse.trouble, true) {
                    let message = format!("Scans of other networks are not noticed: {error}.");
                    self.tell(Told::new(Kind::Trouble, Level::Warning, message));
                }
                return Vec::new();
            }
        };
        let facts = seen.into_iter().filter_map(|(id, fan_out)| {
            let (hosts, port) = (fan_out.hosts(), fan_out.port());
            Some((id, scan::fan_out(hosts, fan_out.established, port)?))
        });
        twice(&mut self.abuse.scanned, facts.collect())
    }

    fn floods(&mut self) -> Vec<(CgroupId, Fact)> {
        let Some(span) = self.counters.span else {
            return Vec::new();
        };
        let seconds = span.as_secs_f64();
        let facts = self
            .counters
            .sent
            .iter()
            .filter_map(|(id, (packets, bytes))| {
                Some((*id, scan::volume(*packets, *bytes, seconds)?))
            });
        twice(&mut self.abuse.flooded, facts.collect())
    }
}

/// Those who were seen at the look before, too.
fn twice(
    before: &mut BTreeSet<CgroupId>,
    facts: BTreeMap<CgroupId, Fact>,
) -> Vec<(CgroupId, Fact)> {
    let last = std::mem::replace(before, facts.keys().copied().collect());
    facts
        .into_iter()
        .filter(|(id, _)| last.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_once_is_an_accident() {
        let fact = Fact::Flood { rate: 1 };
        let seen = |ids: &[u64]| ids.iter().map(|id| (CgroupId(*id), fact)).collect();
        let mut before = BTreeSet::new();
        assert_eq!(twice(&mut before, seen(&[1, 2])), []);
        assert_eq!(twice(&mut before, seen(&[2, 3])), [(CgroupId(2), fact)]);
        assert_eq!(twice(&mut before, seen(&[])), []);
        assert_eq!(twice(&mut before, seen(&[2])), []);
    }
}
