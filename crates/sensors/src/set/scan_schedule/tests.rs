use super::*;
use proptest::prelude::*;
use test_support::Bed;

const LONG: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + LONG
}

/// What the walk lists in one round.
fn list(turns: &mut Turns, bed: &Bed) -> BTreeSet<Process> {
    turns.begin(&BTreeSet::from([bed.id]));
    let budget = Budget::new(MOST_CGROUPS, MOST_PROCESSES, LONG);
    let (found, _) = turns.list(bed.id, &bed.directory, budget);
    found.into_iter().collect()
}

/// A process that has used some CPU time: this one.
fn busy_self() -> Process {
    let me = Process::new(std::process::id());
    let begun = Instant::now();
    while me.ticks().unwrap_or(0) < 2 * WORTH_LOOKING {
        assert!(begun.elapsed() < LONG);
    }
    me
}

#[test]
fn each_of_very_many_processes_has_its_turn() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let many = MOST_PROCESSES + 100;
    let script = format!("for i in $(seq {many}); do sleep 60 & done; wait");
    let mut all = bed.command(&script).spawn().unwrap();
    let everybody = || -> BTreeSet<u32> {
        let budget = Budget::new(10, 10 * many, LONG);
        let (found, all) = cgroup::walk::processes(&bed.directory, budget);
        assert!(all);
        found.into_iter().collect()
    };
    for _ in 0..500 {
        if everybody().len() > many {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(everybody().len() > many);
    let mut turns = Turns::default();
    let first = list(&mut turns, &bed);
    assert_eq!(first.len(), MOST_PROCESSES);
    let second = list(&mut turns, &bed);
    assert_eq!(first.intersection(&second).count(), 0);
    let met: BTreeSet<u32> = first.union(&second).map(|process| process.pid()).collect();
    assert_eq!(met, everybody());
    // And then from the front again.
    assert_eq!(list(&mut turns, &bed).len(), MOST_PROCESSES);
    assert!(turns.behind().is_empty());
    std::fs::write(bed.directory.join("cgroup.kill"), "1").unwrap();
    all.wait().unwrap();
}

#[test]
fn a_server_that_takes_too_many_rounds_is_behind_until_it_is_listed_in_time() {
    let Some(bed) = Bed::new() else {
        return;
    };
    for name in 0..20 {
        std::fs::create_dir(bed.directory.join(format!("{name}"))).unwrap();
    }
    let mut turns = Turns::default();
    let ids = BTreeSet::from([bed.id]);
    let mut round = |most| {
        turns.begin(&ids);
        let budget = Budget::new(most, MOST_PROCESSES, LONG);
        let (_, all) = turns.list(bed.id, &bed.directory, budget);
        (all, turns.behind().get(&bed.id).copied())
    };
    for _ in 0..LISTED_WITHIN {
        assert_eq!(round(1), (false, None));
    }
    let (all, behind) = round(1);
    let behind = behind.unwrap();
    assert!(!all);
    assert_eq!(behind.rounds, LISTED_WITHIN + 1);
    assert_eq!(behind.seen.cgroups as u64, LISTED_WITHIN + 1);
    assert!(round(100).0);
    assert_eq!(round(100), (true, None));
}

#[test]
fn who_does_little_at_a_time_is_looked_into_too_and_who_is_gone_is_forgotten() {
    let mut turns = Turns::default();
    let me = busy_self();
    let now = Time::default();
    let (used, met) = turns.meet_one(1, me, None).unwrap();
    assert_eq!(met, me);
    assert!(turns.is_due(1, me, used, now));
    assert!(!turns.is_due(1, me, used, now));
    let known = turns.known.get_mut(&(1, me.pid())).unwrap();
    assert_eq!(known.looked_ticks, known.ticks);
    // Another one had this number, and used more.
    known.started += 1;
    known.ticks += 1000;
    known.looked_ticks += 1000;
    let (used, _) = turns.meet_one(1, me, None).unwrap();
    assert!(turns.is_due(1, me, used, now));
    turns.round += FORGOTTEN_AFTER;
    turns.begin(&BTreeSet::from([1]));
    assert!(turns.known.is_empty());
}

#[test]
fn a_busy_process_is_met_in_every_round_wherever_the_walk_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut turns = Turns::default();
    let me = busy_self();
    turns.begin(&BTreeSet::from([1]));
    turns.meet_one(1, me, None).unwrap();
    turns.begin(&BTreeSet::from([1]));
    turns.known.get_mut(&(1, me.pid())).unwrap().ticks = 0;
    let met = turns.meet(1, directory.path(), soon());
    assert_eq!(met.iter().map(|one| one.1).collect::<Vec<_>>(), [me]);
    // Not another one with its number.
    let known = turns.known.get_mut(&(1, me.pid())).unwrap();
    (known.started, known.ticks) = (known.started + 1, 0);
    assert_eq!(turns.meet(1, directory.path(), soon()), []);
    assert!(turns.known.is_empty());
}

proptest! {
    #[test]
    fn each_user_has_an_equal_share_and_what_one_leaves_is_for_the_others(
        wanted in proptest::collection::vec(0u64..500, 1..50),
        total in 1u64..1000,
    ) {
        let ms = Duration::from_millis;
        let begun = Instant::now();
        let end = begun + ms(total);
        let equal = ms(total) / u32::try_from(wanted.len()).unwrap();
        let mut now = begun;
        for (at, wants) in wanted.iter().enumerate() {
            let until = share(now, end, wanted.len() - at);
            // Never less than an equal share, whoever came before.
            prop_assert!(until - now + Duration::from_nanos(100) >= equal);
            prop_assert!(until <= end);
            now = until.min(now + ms(*wants));
        }
        // And nothing is left while somebody wants more than an equal share, and is the last.
        if ms(wanted[wanted.len() - 1]) >= ms(total) {
            prop_assert_eq!(now, end);
        }
    }
}

#[test]
fn one_that_was_not_read_to_its_end_for_want_of_cpu_has_its_next_turn_soon() {
    let mut turns = Turns::default();
    let me = busy_self();
    turns.begin(&BTreeSet::from([1]));
    let (used, _) = turns.meet_one(1, me, None).unwrap();
    let at = |seconds| Time(Duration::from_secs(seconds));
    assert!(turns.is_due(1, me, used, at(0)));
    assert!(turns.is_due(1, me, used, at(2)));
    assert!(!turns.is_due(1, me, used, at(5)), "twice as long is waited");
    turns.unfinished(1, me);
    assert!(turns.is_due(1, me, used, at(5)));
}
