//! Records on file, and what becomes of them when writing and reading them fails.

use super::*;
use hubwarden_core::test_support::{quota, record, throttled, unit};
use policy::Controls;
use proptest::prelude::*;
use quantities::{CgroupId, CgroupPath, Cores};
use std::time::Duration;

#[test]
fn records_outlive_the_daemon_and_end_with_the_life_of_their_unit() {
    let directory = tempfile::tempdir().unwrap();
    let (run, units) = (directory.path().join("run"), directory.path().join("units"));
    std::fs::create_dir(&units).unwrap();
    let store = || UndoStore::with_units_in(&run, &units);
    let fragment = units.join("jupyter-alice.service");
    std::fs::write(&fragment, "[Unit]").unwrap();
    let owner = unit("jupyter-alice.service");

    let mut first = store();
    let mut undo = Undo::new(owner.clone(), first.start_of(&owner), quota(1.5));
    undo.intend(throttled());
    first.save(&undo).unwrap();

    let mut second = store();
    assert!(second.load().is_empty());
    assert_eq!(second.unclaimed().count(), 1);
    assert_eq!(second.claim(&owner), Some(undo.clone()));
    assert_eq!(second.unclaimed().count(), 0);
    second.disclaim(&owner);
    assert_eq!(second.unclaimed().count(), 1);

    // The unit was unloaded, and another one of its name was started.
    std::fs::rename(&fragment, units.join("old")).unwrap();
    std::fs::write(&fragment, "[Unit]").unwrap();
    assert!(!second.may_stand(&undo));
    // Whoever takes it over sees that it is of an earlier life.
    let claimed = second.claim(&owner).map(|undo| undo.start);
    assert!(claimed.is_some_and(|start| !start.is_same(second.start_of(&owner))));
    second.forget(&owner);
    let mut third = store();
    assert!(third.load().is_empty());
    assert_eq!(third.records().count(), 0);
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.undo");
    std::fs::write(&path, "{\"owner\":").unwrap();
    let errors = UndoStore::new(directory.path()).load();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path, path);
    assert!(path.exists());
}

#[test]
fn without_room_only_what_is_known_already_may_be_set() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut store = UndoStore::new(&file.join("undo"));
    let mut undo = record(quota(1.5));
    undo.intend(throttled());
    assert!(store.save(&undo).is_err());
    assert!(store.get(&undo.owner).is_none());
    let change = |found: Controls, target: Controls| {
        let mut change = undo.clone();
        change.observe(&found);
        change.intend(target);
        change
    };
    for (target, covered) in [(quota(1.5), true), (throttled(), true), (quota(0.5), false)] {
        assert_eq!(undo.covers(&change(quota(1.5), target)), covered);
    }
    // The owner set another limit since: the record has the wrong one to put back.
    let theirs = quota(0.35);
    assert!(!undo.covers(&change(theirs, throttled())));
    assert!(undo.covers(&change(theirs, theirs)));
}

#[test]
fn a_record_that_could_not_be_read_at_start_is_known_once_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = UndoStore::new(directory.path());
    let mut undo = record(quota(1.5));
    undo.intend(throttled());
    first.save(&undo).unwrap();
    let file = std::fs::read_dir(directory.path()).unwrap().next();
    let path = file.unwrap().unwrap().path();
    let text = std::fs::read(&path).unwrap();
    for damaged in ["{", ""] {
        std::fs::write(&path, damaged).unwrap();
        let mut next = UndoStore::new(directory.path());
        assert_eq!(next.load().len(), 1);
        assert!(next.read_missing(&undo.owner).is_err());
        std::fs::write(&path, &text).unwrap();
        next.read_missing(&undo.owner).unwrap();
        assert_eq!(next.claim(&undo.owner), Some(undo.clone()));
    }
    // Nor is one that is there with all others.
    let away = directory.path().with_extension("away");
    std::fs::rename(directory.path(), &away).unwrap();
    std::fs::write(directory.path(), "").unwrap();
    let mut next = UndoStore::new(directory.path());
    assert_eq!(next.load().len(), 1);
    assert!(next.read_again().is_err());
    std::fs::remove_file(directory.path()).unwrap();
    std::fs::rename(&away, directory.path()).unwrap();
    assert!(next.read_again().unwrap());
    assert!(!next.read_again().unwrap());
    assert_eq!(next.claim(&undo.owner), Some(undo));
}

#[test]
fn cgroups_and_units_of_any_name_have_records_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = UndoStore::new(directory.path());
    let odd = format!("jupyter-{}.service", "x".repeat(240));
    let cgroup = CgroupPath::new("docker/0123");
    let owners = [
        unit(&odd),
        unit("jupyter-..\\x2f.service"),
        Owner::Cgroup(cgroup.clone(), CgroupId(1)),
        Owner::Cgroup(cgroup, CgroupId(2)),
    ];
    for owner in &owners {
        let mut undo = Undo::new(owner.clone(), Start::default(), quota(1.0));
        undo.intend(throttled());
        store.save(&undo).unwrap();
    }
    let mut read = UndoStore::new(directory.path());
    assert!(read.load().is_empty());
    assert_eq!(read.records().count(), owners.len());
}

/// What may happen to a unit, as seen from outside of it.
#[derive(Debug, Clone)]
enum Step {
    /// A change of ours of which every part may be made or cut off, and its reading too.
    Change {
        to: usize,
        parts: [bool; 3],
        read: bool,
    },
    /// Everything is to be put back.
    PutBack { parts: [bool; 3], read: bool },
    /// The owner sets something that we never set.
    Owner {
        quota: Option<u32>,
        weight: Option<u32>,
    },
    /// The daemon is killed and started again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let parts = || proptest::array::uniform3(any::<bool>());
    let change = (0..4usize, parts(), any::<bool>()).prop_map(|(to, parts, read)| Step::Change {
        to,
        parts,
        read,
    });
    let put_back = (parts(), any::<bool>()).prop_map(|(parts, read)| Step::PutBack { parts, read });
    let owner = (proptest::option::of(0..9u32), proptest::option::of(0..9u32))
        .prop_map(|(quota, weight)| Step::Owner { quota, weight });
    proptest::collection::vec(
        prop_oneof![change, put_back, owner, Just(Step::Restart)],
        0..40,
    )
}

/// Sets one property after the other, each of which may be cut off, as a re-execution does.
fn set(standing: &mut Controls, to: &Controls, parts: [bool; 3]) {
    if parts[0] {
        standing.period = to.period;
    }
    if parts[1] {
        standing.quota = to.quota;
    }
    if parts[2] {
        standing.weight = to.weight;
        standing.frozen = to.frozen;
    }
}

proptest! {
    /// Whatever is cut off, in whatever order, what is put back is only ever what the owner set.
    #[test]
    fn what_is_put_back_is_only_ever_what_others_set(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = UndoStore::new(directory.path());
        let owner = unit("jupyter-alice.service");
        let mut theirs = Controls::default();
        let mut standing = theirs;
        let mut undo = Undo::new(owner.clone(), Start::default(), standing);
        for step in steps {
            undo.observe(&standing);
            prop_assert_eq!(undo.before(), &theirs, "before {:?}", step);
            match step {
                Step::Change { to, parts, read } => {
                    let ours = [
                        throttled(),
                        quota(2.0),
                        Controls { weight: Some(20), ..theirs },
                        Controls { frozen: true, ..throttled() },
                    ][to];
                    undo.intend(ours);
                    store.save(&undo).unwrap();
                    set(&mut standing, &ours, parts);
                    if read && standing == ours {
                        undo.confirm(ours);
                        store.save(&undo).unwrap();
                    }
                }
                Step::PutBack { parts, read } => {
                    let before = *undo.before();
                    undo.intend(before);
                    store.save(&undo).unwrap();
                    set(&mut standing, &before, parts);
                    if read && standing == before {
                        undo.confirm(before);
                        store.save(&undo).unwrap();
                    }
                }
                Step::Owner { quota, weight } => {
                    // Numbers of theirs, with a period of theirs: ours are others.
                    if let Some(number) = quota {
                        theirs.quota = Some(Cores(f64::from(number) + 10.0));
                        theirs.period = Some(Duration::from_millis(50 + u64::from(number)));
                        standing.quota = theirs.quota;
                        standing.period = theirs.period;
                    }
                    if let Some(number) = weight {
                        theirs.weight = Some(u64::from(number) + 500);
                        standing.weight = theirs.weight;
                    }
                }
                Step::Restart => {
                    store = UndoStore::new(directory.path());
                    prop_assert!(store.load().is_empty());
                    undo = match store.claim(&owner) {
                        Some(undo) => undo,
                        None => Undo::new(owner.clone(), Start::default(), standing),
                    };
                }
            }
        }
    }
}
