use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Workers that multiply by ten, that wait at a door with odd numbers, and that nought ends.
fn workers(holders: &Holders) -> (tempfile::TempDir, Workers<u64, u64>) {
    let directory = tempfile::tempdir().unwrap();
    let door = directory.path().join("open");
    let work = "while read -r job; do [ \"$job\" != 0 ] || exit 1
        while [ $((job % 2)) = 1 ] && [ -d \"${0%/*}\" ] && [ ! -e \"$0\" ]; do sleep 0.02; done
        echo $((10 * job)) >&0; done";
    let program = move || {
        let mut shell = Command::new("sh");
        shell.args(["-c", work]).arg(&door);
        shell
    };
    (directory, Workers::new(holders.clone(), program))
}

fn owner(number: usize) -> Owner {
    format!("user {number:03}").into()
}

/// Waits until so many answers are there; a busy machine may make any worker late.
fn answers(workers: &mut Workers<u64, u64>, count: usize) -> Vec<(Owner, u64)> {
    let begun = Instant::now();
    let mut all = Vec::new();
    while all.len() < count && begun.elapsed() < LONG {
        all.extend(workers.turn(Instant::now() + TRIED_EVERY));
        std::thread::sleep(Duration::from_millis(1));
    }
    all
}

fn wait_until_held(workers: &mut Workers<u64, u64>, count: usize) {
    let begun = Instant::now();
    while workers.held().count() < count && begun.elapsed() < 2 * LONG {
        assert_eq!(workers.turn(Instant::now() + TRIED_EVERY), []);
    }
    assert_eq!(workers.held().count(), count);
}

#[test]
fn who_holds_a_helper_is_left_alone_with_it_and_the_others_are_helped() {
    let holders = Holders::default();
    let (door, mut workers) = workers(&holders);
    let [alice, bob] = [owner(1), owner(2)];
    assert!(workers.add(&alice, 3));
    wait_until_held(&mut workers, 1);
    assert_eq!(workers.held().collect::<Vec<_>>(), [(&alice, &3)]);
    assert!(!workers.add(&alice, 4), "a second one would be held");
    assert!(workers.add(&bob, 4));
    assert_eq!(answers(&mut workers, 1), [(bob, 40)]);
    std::fs::write(door.path().join("open"), "").unwrap();
    assert_eq!(answers(&mut workers, 1), [(alice.clone(), 30)]);
    assert!(workers.add(&alice, 4));
    assert_eq!(answers(&mut workers, 1), [(alice, 40)]);
}

#[test]
fn a_user_with_many_jobs_holds_one_helper_in_all_pools_together() {
    let holders = Holders::default();
    let (_door, mut first) = workers(&holders);
    let (_other_door, mut second) = workers(&holders);
    let alice = owner(1);
    for _ in 0..50 {
        first.add(&alice, 1);
    }
    wait_until_held(&mut first, 1);
    second.add(&alice, 2);
    assert_eq!(second.turn(Instant::now() + 2 * TRIED_EVERY), []);
    assert_eq!((first.fds().count(), second.fds().count()), (1, 0));
    assert_eq!(holders.count(), 1);
    assert_eq!(second.clear(), [alice]);
    drop(first);
    assert_eq!(holders.count(), 0);
}

#[test]
fn sixteen_who_hold_helpers_take_none_from_a_seventeenth() {
    let (_door, mut workers) = workers(&Holders::default());
    for number in 0..16 {
        workers.add(&owner(number), 1);
    }
    wait_until_held(&mut workers, 16);
    assert_eq!(workers.trouble(), None);
    workers.add(&owner(99), 2);
    assert_eq!(answers(&mut workers, 1), [(owner(99), 20)]);
}

#[test]
fn each_user_has_a_turn_however_many_jobs_another_has() {
    let (_door, mut workers) = workers(&Holders::default());
    // Far more than another worker takes to start.
    for _ in 0..1000 {
        workers.add(&owner(0), 2);
    }
    workers.add(&owner(1), 4);
    workers.add(&owner(2), 6);
    let all = answers(&mut workers, 1002);
    assert_eq!(all.len(), 1002);
    let place = |number| all.iter().position(|(of, _)| *of == owner(number)).unwrap();
    assert!(
        place(1) < 900 && place(2) < 900,
        "{} {}",
        place(1),
        place(2)
    );
}

#[test]
fn no_more_are_at_work_than_there_may_be_and_that_is_said() {
    let holders = Holders::default();
    let all: Vec<Claim> = (0..MOST_AT_WORK)
        .map(|number| holders.claim(&owner(number), MOST_AT_WORK).unwrap())
        .collect();
    let (_door, mut workers) = workers(&holders);
    workers.add(&owner(999), 2);
    assert_eq!(workers.turn(Instant::now() + TRIED_EVERY), []);
    assert!(workers.trouble().unwrap().starts_with("128 users hold up"));
    drop(all);
    assert_eq!(answers(&mut workers, 1), [(owner(999), 20)]);
    assert_eq!(workers.trouble(), None);
}

#[test]
fn a_helper_that_ends_is_no_answer_and_the_next_job_is_done() {
    let (_door, mut workers) = workers(&Holders::default());
    workers.add(&owner(1), 0);
    workers.add(&owner(1), 6);
    assert_eq!(answers(&mut workers, 1), [(owner(1), 60)]);
}

#[test]
fn where_no_helper_can_be_started_nothing_waits_and_that_is_said() {
    let program = || Command::new("/nonexistent/worker");
    let mut workers: Workers<u64, u64> = Workers::new(Holders::default(), program);
    assert!(workers.try_out(&2, LONG).is_err());
    workers.add(&owner(1), 2);
    assert_eq!(workers.turn(Instant::now() + LONG), []);
    let trouble = workers.trouble().unwrap();
    assert!(trouble.contains("can be started"), "{trouble}");
    let program = || Command::new("false");
    let mut workers: Workers<u64, u64> = Workers::new(Holders::default(), program);
    assert!(workers.try_out(&2, LONG).is_err());
}
