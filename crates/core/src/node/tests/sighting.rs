//! What sensors find, and where they look.

use super::*;
use policy::finding::{Evidence, Fact, Word};
use std::collections::BTreeSet;

/// A pool's protocol was spoken in this place.
fn pool(tried: &Tried, id: u64) -> Sighting {
    let evidence = Evidence {
        fact: Fact::Stratum {
            word: Word::Login,
            port: 3333,
        },
        pid: 7,
        at: tried.now,
    };
    Sighting {
        id: CgroupId(id),
        evidence,
        started: Some(7),
    }
}

/// A server that so far used little.
fn idle() -> Tried {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.tick(1, &[(1, 0.0)]);
    tried.tick(10, &[(1, 1.0)]);
    tried.handle(Input::Attend(BTreeMap::new()));
    tried.effects.clear();
    tried
}

/// What there is evidence of, whether sensors may have to look elsewhere, and who is accused.
fn effects(tried: &mut Tried) -> (Vec<Strength>, bool, Vec<u64>) {
    let (mut levels, mut attends, mut accused) = (Vec::new(), false, Vec::new());
    for effect in tried.effects.drain(..) {
        match effect {
            Effect::Evidence(CgroupId(1), level, findings) if !findings.is_empty() => {
                levels.push(level);
            }
            Effect::Attend => attends = true,
            Effect::Accused(ids) => {
                assert!(!ids.is_empty());
                accused.extend(ids.into_iter().map(|id| id.0));
            }
            _ => {}
        }
    }
    (levels, attends, accused)
}

#[test]
fn what_is_found_is_weighed_and_again_once_the_server_is_hot() {
    let mut tried = idle();
    let found = pool(&tried, 1);
    tried.handle(Input::Sighted(vec![found]));
    assert_eq!(
        effects(&mut tried),
        (vec![Strength::Suspicious], true, vec![])
    );
    let log = tried.node.evidence().of(CgroupId(1)).expect("it is kept");
    assert_eq!(log.findings(), [found.evidence]);
    tried.handle(Input::Weigh);
    assert_eq!(effects(&mut tried), (vec![], false, vec![]));
    tried.tick(10, &[(1, 11.0)]);
    tried.handle(Input::Attend(BTreeMap::new()));
    tried.handle(Input::Weigh);
    assert_eq!(effects(&mut tried), (vec![Strength::High], false, vec![1]));
}

#[test]
fn what_is_found_of_the_unknown_and_while_supervision_is_off_is_dropped() {
    let mut tried = idle();
    tried.handle(Input::Sighted(vec![pool(&tried, 9)]));
    assert_eq!(effects(&mut tried), (vec![], false, vec![]));
    let off = true;
    tried.handle(Input::Settings(Settings {
        off,
        ..settings(Mode::Enforce)
    }));
    tried.handle(Input::Sighted(vec![pool(&tried, 1)]));
    assert_eq!(effects(&mut tried), (vec![], false, vec![]));
}

#[test]
fn sensors_look_at_servers_that_are_hot_unless_supervision_is_off() {
    let mut tried = idle();
    assert_eq!(tried.node.waits_wanted(), [CgroupId(1)]);
    for off in [false, true] {
        tried.handle(Input::Settings(Settings {
            off,
            ..settings(Mode::Enforce)
        }));
        let used = 1.0 + if off { 200.0 } else { 0.0 };
        for seconds in 0..62 {
            tried.tick(1, &[(1, used + f64::from(seconds))]);
            tried.effects.clear();
            tried.handle(Input::Attend(BTreeMap::new()));
        }
        let hot = if off { vec![] } else { vec![CgroupId(1)] };
        let hot = BTreeSet::from_iter(hot);
        assert!(tried.effects.contains(&Effect::LookAt(hot)), "off: {off}");
    }
}
