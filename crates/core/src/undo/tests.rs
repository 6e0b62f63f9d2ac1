//! Records of changes: what stands is told apart by what was ever set.

mod kernel;

use super::*;
use crate::test_support::{quota, record, throttled, unit};
use quantities::{CgroupId, CgroupPath, UnitName};

#[test]
fn a_change_that_was_cut_off_is_never_taken_for_the_owners() {
    let before = quota(1.5);
    // Throttled, then freed and cut off, then throttled anew: any of them may stand.
    let mut undo = record(before);
    undo.intend(throttled());
    undo.confirm(throttled());
    undo.intend(quota(1.0));
    undo.intend(before);
    for standing in [throttled(), quota(1.0), before] {
        assert!(!undo.observe(&standing), "{standing:?}");
        assert_eq!(*undo.before(), before);
    }
    assert!(undo.stands());
    undo.confirm(before);
    assert!(!undo.stands());
    // What a stale drop-in brings back.
    assert!(!undo.observe(&throttled()));
}

#[test]
fn half_a_change_is_ours_and_the_same_numbers_of_an_owner_are_not() {
    let mut undo = record(Controls::default());
    undo.intend(throttled());
    let half = Controls {
        period: throttled().period,
        ..Controls::default()
    };
    assert!(!undo.observe(&half));
    undo.confirm(throttled());
    undo.intend(quota(2.0));
    undo.confirm(quota(2.0));
    // An admin's quota beside the period of ours.
    let beside = Controls {
        period: throttled().period,
        ..quota(1.3)
    };
    assert!(undo.observe(&beside));
    assert_eq!(*undo.before(), quota(1.3));
    // The throttled quota, with a period that it never had: an admin's 25 %.
    assert!(undo.observe(&quota(0.25)));
    assert_eq!(*undo.before(), quota(0.25));
}

#[test]
fn what_an_owner_sets_and_takes_back_is_followed_both_times() {
    let mut undo = record(Controls::default());
    undo.intend(throttled());
    undo.confirm(throttled());
    for memory_max in [Some(Bytes(1 << 30)), None, Some(Bytes(1 << 31))] {
        let found = Controls {
            memory_max,
            ..throttled()
        };
        assert!(undo.observe(&found));
        assert_eq!(undo.before().memory_max, memory_max);
        undo.intend(found);
        undo.confirm(found);
    }
}

#[test]
fn a_freeze_is_ours_only_while_one_may_be_under_way() {
    let mut undo = record(Controls::default());
    let frozen = Controls {
        frozen: true,
        ..Controls::default()
    };
    undo.intend(frozen);
    undo.intend(Controls::default());
    assert!(!undo.observe(&frozen), "the thaw was cut off");
    undo.confirm(Controls::default());
    assert!(undo.observe(&frozen), "an admin froze it");
    assert!(undo.before().frozen);
}

#[test]
fn parts_of_two_changes_under_way_are_ours_beside_an_owner_s() {
    let before = quota(1.5);
    let under_way = || {
        let mut undo = record(before);
        undo.intend(throttled());
        undo.intend(quota(1.0));
        undo
    };
    // The quota of the first with the period of the second.
    let mut undo = under_way();
    assert!(!undo.observe(&quota(0.25)));
    assert_eq!(*undo.before(), before);
    // A quota that was never sent, and a period that was never sent.
    let period = throttled().period;
    let (mut undo, theirs) = (under_way(), quota(1.3));
    assert!(undo.observe(&Controls { period, ..theirs }));
    assert_eq!(*undo.before(), theirs);
    let (mut undo, period) = (under_way(), Some(Duration::from_millis(50)));
    undo.intend(throttled());
    assert!(undo.observe(&Controls {
        period,
        ..quota(0.25)
    }));
    assert_eq!(*undo.before(), Controls { period, ..before });
    // Once all is made, the quota without its period is its owner's.
    let mut undo = record(before);
    undo.intend(throttled());
    undo.confirm(throttled());
    assert!(!undo.observe(&quota(0.25)));
    undo.intend(quota(1.0));
    undo.confirm(quota(1.0));
    assert!(undo.observe(&quota(0.25)));
    assert_eq!(*undo.before(), quota(0.25));
}

#[test]
fn sixteen_changes_under_way_and_thirty_two_values_are_known() {
    let frozen = |sent: u64| {
        let mut undo = record(Controls::default());
        undo.intend(Controls {
            frozen: true,
            ..Controls::default()
        });
        for weight in 1..=sent {
            undo.intend(Controls {
                weight: Some(weight),
                ..Controls::default()
            });
        }
        undo
    };
    let found = Controls {
        frozen: true,
        ..Controls::default()
    };
    // What stands is among the sixteen.
    assert!(!frozen(14).observe(&found));
    assert!(frozen(15).observe(&found));

    let written = |values: u64| {
        let mut undo = record(Controls::default());
        for weight in 1..=values {
            let set = Controls {
                weight: Some(weight),
                ..Controls::default()
            };
            undo.intend(set);
            undo.confirm(set);
        }
        undo
    };
    let first = Controls {
        weight: Some(1),
        ..Controls::default()
    };
    assert!(!written(32).observe(&first));
    assert!(written(33).observe(&first));
}

/// A record of a change of every setting but standing still, and what was set.
fn changed() -> (Undo, Controls) {
    let set = Controls {
        memory_high: Some(Bytes(1 << 30)),
        memory_max: Some(Bytes(1 << 31)),
        tasks_max: Some(3000),
        io_weight: Some(50),
        ..throttled()
    };
    let mut undo = record(quota(1.5));
    undo.intend(set);
    (undo, set)
}

/// Another value of each setting, one at a time.
fn varied(set: Controls) -> Vec<Controls> {
    let mut varied = vec![set; 7];
    varied[0].quota = Some(Cores(0.5));
    varied[1].period = Some(Duration::from_millis(25));
    varied[2].weight = Some(30);
    varied[3].memory_high = Some(Bytes(1 << 20));
    varied[4].memory_max = Some(Bytes(1 << 21));
    varied[5].tasks_max = Some(100);
    varied[6].io_weight = Some(60);
    varied
}

#[test]
fn an_older_record_covers_a_change_of_which_it_knows_each_value() {
    let (mut undo, set) = changed();
    let frozen = Controls {
        frozen: true,
        ..set
    };
    let covers = |undo: &Undo, found: Controls, target: Controls| {
        let mut change = undo.clone();
        change.observe(&found);
        change.intend(target);
        undo.covers(&change)
    };
    assert!(covers(&undo, set, set) && covers(&undo, set, quota(1.5)));
    for target in varied(set) {
        assert!(!covers(&undo, set, target), "{target:?}");
    }
    assert!(!covers(&undo, set, frozen));
    undo.intend(frozen);
    assert!(covers(&undo, set, frozen));
    // The owner set another limit since: the record has the wrong one to put back.
    let theirs = quota(0.35);
    assert!(!covers(&undo, theirs, set) && covers(&undo, theirs, theirs));
}

#[test]
fn what_went_astray_is_ours_and_the_rest_is_its_owner_s() {
    let (_, set) = changed();
    let theirs = quota(1.5);
    let mut undo = record(set);
    undo.receive_stray(set, &theirs);
    assert_eq!((undo.before(), undo.ours()), (&theirs, &set));
    // Quota and period are one setting.
    let mut kept = varied(theirs);
    (kept[0].period, kept[1].quota) = (set.period, set.quota);
    for (found, kept) in varied(set).into_iter().zip(kept) {
        let mut undo = record(found);
        undo.receive_stray(set, &theirs);
        assert_eq!(*undo.before(), kept);
    }
}

#[test]
fn all_that_may_stand_is_told_when_nothing_can_be_read() {
    let (mut undo, set) = changed();
    let frozen = Controls {
        frozen: true,
        ..quota(1.5)
    };
    assert_eq!(undo.may_stand(), set);
    undo.intend(frozen);
    undo.intend(quota(1.5));
    assert_eq!(
        undo.may_stand(),
        Controls {
            frozen: true,
            ..set
        }
    );
    let moved = undo.of(unit("jupyter-bob.service"));
    assert_eq!(moved.owner, unit("jupyter-bob.service"));
}

#[test]
fn a_unit_is_the_same_in_another_cgroup_and_a_cgroup_is_not_another() {
    let place = |id| (CgroupPath::new("docker/0123"), CgroupId(id));
    let systemd = |name: &str, id| Owner::Systemd(UnitName(name.to_owned()), Some(place(id)));
    let cgroup = |id| Owner::Cgroup(place(id).0, CgroupId(id));
    assert!(systemd("a.service", 1).is_same_unit(&systemd("a.service", 2)));
    assert!(!systemd("a.service", 1).is_same_unit(&systemd("b.service", 1)));
    assert!(cgroup(1).is_same_unit(&cgroup(1)));
    assert!(!cgroup(1).is_same_unit(&cgroup(2)));
    assert!(!cgroup(1).is_same_unit(&systemd("a.service", 1)));
}
