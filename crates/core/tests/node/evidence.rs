//! What sensors found, and which servers they look at.

use crate::made_up::Node;
use hubwarden_core::evidence::{Attention, EvidenceStore};
use policy::finding::{Evidence, Fact, Modes, Strength, Word};
use policy::{FindingKind, Stage};
use quantities::{CgroupId, Cores, Time};
use std::time::Duration;

const STRATUM: Fact = Fact::Stratum {
    word: Word::Login,
    port: 3333,
};
const SCAN: Fact = Fact::Scan {
    hosts: 500,
    answered: 0,
    port: Some(22),
    looks: 10,
};
const NAMED: Fact = Fact::Named("xmrig");
const RANDOM: Fact = Fact::RandomRounding(Modes {
    down: 20,
    up: 20,
    zero: 20,
    flushed: 60,
});

/// A node with sensors.
struct Watched {
    node: Node,
    store: EvidenceStore,
    attention: Attention,
}

impl Watched {
    fn new() -> Watched {
        Watched {
            node: Node::new(),
            store: EvidenceStore::default(),
            attention: Attention {
                supervised: true,
                hot: Cores(0.9),
                hot_for: Duration::from_secs(10),
                stands: Duration::from_secs(600),
            },
        }
    }

    fn attend(&mut self) -> Vec<CgroupId> {
        let looked_at = (self.store).attend(&self.node.accounts, &self.attention, self.node.now);
        looked_at.into_iter().collect()
    }

    /// Ticks; the servers that are looked at after the last one.
    fn ticks(&mut self, ticks: u32, use_of: &dyn Fn(CgroupId) -> f64) -> Vec<CgroupId> {
        let mut looked_at = Vec::new();
        for _ in 0..ticks {
            self.node.tick(use_of);
            looked_at = self.attend();
        }
        looked_at
    }

    /// A server that has used much CPU for long.
    fn hot_server(&mut self) -> CgroupId {
        let id = self.node.server("alice");
        assert_eq!(self.ticks(20, &|_| 1.0), [id]);
        id
    }

    fn find(&mut self, id: CgroupId, pid: u32, fact: Fact) -> Evidence {
        let at = self.node.now;
        let finding = Evidence { fact, pid, at };
        assert!(self.store.add(id, finding, Some(u64::from(pid)), at));
        finding
    }

    /// Weighs what was found just now: the levels that are news, and whether the account was told.
    fn weigh(&mut self, id: CgroupId, fresh: &[Evidence]) -> (Vec<Strength>, bool) {
        let weighed = (self.store).weigh(&mut self.node.accounts, id, fresh, self.node.now);
        let levels = weighed.news.iter().map(|(level, _)| *level).collect();
        (levels, weighed.accused)
    }
}

#[test]
fn a_server_is_looked_at_once_it_was_hot_for_long() {
    let mut watched = Watched::new();
    let id = watched.node.server("alice");
    watched.node.server("bob");
    let busy = |one: CgroupId| if one == id { 1.0 } else { 0.1 };
    watched.ticks(2, &busy);
    let since = watched.store.of(id).unwrap().hot_since();
    assert_eq!(since, Some(watched.node.now));
    assert_eq!(watched.ticks(9, &busy), []);
    assert_eq!(watched.ticks(1, &busy), [id]);
    assert_eq!(watched.store.of(id).unwrap().hot_since(), since);
    // A moment of rest, and it begins anew.
    assert_eq!(watched.ticks(1, &|_| 0.5), []);
    assert_eq!(watched.ticks(10, &busy), []);
    assert_eq!(watched.ticks(1, &busy), [id]);
}

#[test]
fn while_supervision_is_off_none_is_hot() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    watched.attention.supervised = false;
    assert_eq!(watched.attend(), []);
    assert_eq!(watched.store.of(id).unwrap().hot_since(), None);
}

#[test]
fn for_a_slice_that_is_hot_its_server_is_looked_at() {
    let mut watched = Watched::new();
    let (idle, server) = (watched.node.server("alice"), watched.node.server("alice"));
    let slice = watched.node.slice_of(server);
    let busy = |one: CgroupId| if one == slice { 1.5 } else { 0.0 };
    assert_eq!(watched.ticks(20, &busy), [server]);
    let known: Vec<_> = watched.store.servers().collect();
    assert_eq!(known, [idle, server]);
}

#[test]
fn a_server_of_which_something_was_found_is_looked_at_for_a_minute() {
    let mut watched = Watched::new();
    let (named, honest) = (watched.node.server("alice"), watched.node.server("bob"));
    assert_eq!(watched.ticks(1, &|_| 0.0), []);
    watched.find(named, 7, NAMED);
    watched.find(honest, 8, Fact::IntervalRounding(Modes::default()));
    assert_eq!(watched.ticks(59, &|_| 0.0), [named]);
    assert_eq!(watched.ticks(1, &|_| 0.0), []);
}

#[test]
fn a_server_that_evidence_stands_against_is_looked_at() {
    let mut watched = Watched::new();
    let id = watched.node.server("alice");
    watched.ticks(1, &|_| 0.0);
    let (level, of) = (Strength::High, FindingKind::Network);
    let now = watched.node.now;
    watched.node.accounts.accuse(id, level, of, now);
    assert_eq!(watched.ticks(599, &|_| 0.0), [id]);
    assert_eq!(watched.ticks(1, &|_| 0.0), []);
}

#[test]
fn nothing_is_kept_of_servers_that_are_not_there() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    let finding = watched.find(id, 7, STRATUM);
    assert_eq!(watched.store.of(id).unwrap().findings(), [finding]);
    watched.node.ends(id);
    watched.attend();
    assert!(watched.store.of(id).is_none());
    assert!(!watched.store.add(id, finding, None, watched.node.now));
    assert_eq!(watched.weigh(id, &[finding]), (vec![], false));
}

#[test]
fn a_level_is_news_once_for_each_kind_of_finding() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    assert_eq!(watched.weigh(id, &[]), (vec![], false), "nothing was found");
    let named = watched.find(id, 7, NAMED);
    assert_eq!(
        watched.weigh(id, &[named]),
        (vec![Strength::Suspicious], false)
    );
    assert_eq!(watched.weigh(id, &[named]), (vec![], false));
    let stratum = watched.find(id, 0, STRATUM);
    let weighed = watched.weigh(id, &[stratum]);
    assert_eq!(weighed, (vec![Strength::High], true));
    let scan = watched.find(id, 0, SCAN);
    assert_eq!(watched.weigh(id, &[scan]).0, [Strength::High]);
    let log = watched.store.of(id).unwrap();
    assert_eq!(log.level(FindingKind::Mining), Some(Strength::High));
    assert_eq!(log.level(FindingKind::Network), Some(Strength::High));
    // Together with constants or the protocol, rounding modes are certain.
    let random = watched.find(id, 7, RANDOM);
    let weighed = watched.weigh(id, &[random]);
    assert_eq!(weighed, (vec![Strength::Certain], true));
}

#[test]
fn an_account_is_told_once_a_server_is_hot_of_which_enough_was_found() {
    let mut watched = Watched::new();
    let id = watched.node.server("alice");
    watched.ticks(1, &|_| 0.0);
    let stratum = watched.find(id, 0, STRATUM);
    let weighed = watched.weigh(id, &[stratum]);
    assert_eq!(weighed, (vec![Strength::Suspicious], false));
    watched.ticks(2, &|_| 1.0);
    assert_eq!(watched.weigh(id, &[]), (vec![Strength::High], true));
}

#[test]
fn an_account_is_told_again_while_mining_goes_on() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    let stratum = watched.find(id, 0, STRATUM);
    assert!(watched.weigh(id, &[stratum]).1);
    // Neither nothing, nor a name, nor a scan says that it still mines.
    let (named, scan) = (watched.find(id, 8, NAMED), watched.find(id, 0, SCAN));
    for fresh in [&[][..], &[named], &[scan]] {
        assert!(!watched.weigh(id, fresh).1, "{fresh:?}");
    }
    assert!(watched.weigh(id, &[named, stratum]).1);
    watched.node.tick(&|_| 1.0);
    assert_eq!(watched.node.stage(id), Stage::Throttled);
}

#[test]
fn an_account_is_told_again_while_abuse_of_the_network_goes_on() {
    let mut watched = Watched::new();
    let id = watched.node.server("alice");
    watched.ticks(1, &|_| 0.0);
    let scan = watched.find(id, 0, SCAN);
    assert_eq!(watched.weigh(id, &[scan]), (vec![Strength::High], true));
    let spoofed = watched.find(id, 0, Fact::Spoofed { packets: 9 });
    assert!(!watched.weigh(id, &[spoofed]).1);
    assert!(watched.weigh(id, &[scan]).1);
    let standing = watched.node.place(id).standing();
    let of = standing.accusation(watched.node.now).map(|one| one.of);
    assert_eq!(of, Some(FindingKind::Network));
}

#[test]
fn the_processes_that_mine_are_those_with_a_sign_of_it_and_a_start() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    watched.find(id, 9, RANDOM);
    watched.find(id, 7, Fact::Constants { found: 7 });
    watched.find(id, 8, NAMED);
    watched.find(id, 6, SCAN);
    let unknown = Evidence {
        fact: RANDOM,
        pid: 5,
        at: watched.node.now,
    };
    watched.store.add(id, unknown, None, watched.node.now);
    assert_eq!(watched.store.mining_processes(id), [(7, 7), (9, 9)]);
    assert_eq!(watched.store.mining_processes(CgroupId(99)), []);
}

#[test]
fn a_log_begins_anew_once_what_was_found_is_ended() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    let stratum = watched.find(id, 7, STRATUM);
    watched.weigh(id, &[stratum]);
    watched.store.clear(id);
    let log = watched.store.of(id).unwrap();
    assert_eq!((log.findings(), log.hot_since()), (&[][..], None));
    assert_eq!(log.level(FindingKind::Mining), None);
}

#[test]
fn a_finding_is_let_go_after_it_has_stood_its_time() {
    let mut watched = Watched::new();
    let id = watched.hot_server();
    let found = watched.find(id, 7, NAMED);
    watched.node.now = Time(found.at.0 + Duration::from_millis(599_999));
    watched.attend();
    assert_eq!(watched.store.of(id).unwrap().findings(), [found]);
    watched.node.now = Time(found.at.0 + watched.attention.stands);
    watched.attend();
    assert_eq!(watched.store.of(id).unwrap().findings(), []);
}
