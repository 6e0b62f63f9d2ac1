//! Processes that start programs as fast as the machine can: some 20,000 a second where it is idle.
//!
//! How fast is printed and asked of nobody. What is asked is the same at any speed: each start that the
//! kernel did is told or counted, and what that takes is little beside what the storm itself takes.

use crate::QUICK;
use crate::bed::{Bed, Hostile, memory_kb, sensors_on};
use policy::finding::Fact;
use quantities::Time;
use sensors::process::Process;
use sensors::program;
use sensors::set::Suspect;
use sensors::starts::Starts;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts by each of the processes that are at it.
const AGAIN: u32 = 2_500;
const AT_ONCE: u64 = 8;
/// With the two that lead up to each.
const STARTS: u64 = AT_ONCE * (AGAIN as u64 + 2);
/// Starts of one server that the kernel tells in a second (`bpf/starts.bpf.c`).
const TOLD_A_SECOND: u64 = 100;
/// What its 256 kB have room for.
const ROOM: u64 = 512;

/// Everything that could be taken for ours, where a program's name and arguments are.
const NAME: &[u8] = b"x\n\x1b[2J\xff";
const ARGUMENT: &[u8] = b"\nEVIDENCE=none\n\x1b]0;free\x07";

/// A storm that is spread over these beds.
fn begin(beds: &[Bed]) -> Vec<Hostile> {
    let (name, argument) = (OsStr::from_bytes(NAME), OsStr::from_bytes(ARGUMENT));
    let beds = beds.iter().cycle().take(AT_ONCE as usize);
    beds.map(|bed| bed.storm(name, AGAIN, &[argument]))
        .collect()
}

/// How long it took, and what of the processor.
fn whole_storm(beds: &[Bed]) -> (Duration, Duration) {
    let used = || beds.iter().map(Bed::used).sum::<Duration>();
    let (begun, before) = (Instant::now(), used());
    begin(beds).into_iter().for_each(Hostile::ends_well);
    (begun.elapsed(), used() - before)
}

fn a_second(took: Duration) -> f64 {
    STARTS as f64 / took.as_secs_f64()
}

#[test]
fn each_of_twenty_thousand_starts_is_told_or_counted_and_none_costs_much() {
    // Of one bed the kernel would tell less than it has room for.
    let beds: Vec<Bed> = (0..AT_ONCE).map(|_| Bed::new()).collect();
    let ids: BTreeSet<u64> = beds.iter().map(|bed| bed.id).collect();
    let types = program::types().expect("a kernel that describes its types");
    let mut starts = Starts::load(&types).expect("BPF");
    let (_, plain) = whole_storm(&beds);
    assert_eq!(starts.missed(), 0, "nobody is watched");

    starts.watch(&ids).unwrap();
    let (took, watched) = whole_storm(&beds);
    let each = |used: Duration| used.as_secs_f64() * 1e6 / STARTS as f64;
    println!(
        "{:.0} starts a second; {:.1} us of processor time each, unwatched {:.1} us",
        a_second(took),
        each(watched),
        each(plain)
    );
    // Nobody has read any yet: what there is no room for is counted too.
    let mut told = 0;
    starts.read(|start| {
        assert!(ids.contains(&start.cgroup));
        told += 1;
    });
    assert!((ROOM / 2..=ROOM).contains(&told), "{told} in 256 kB");
    starts.read(|start| panic!("{start:?}"));
    assert_eq!(told + starts.missed(), STARTS);
    assert!(watched < 2 * plain, "{watched:?}, unwatched {plain:?}");
}

#[test]
fn sensors_in_a_storm_of_starts_do_not_grow_and_find_the_miner_in_it_and_tell_what_they_missed() {
    let bed = Bed::new();
    let (sensors, mut said) = bed.sensor();
    // The first takes what there is to be taken once.
    let beds = [bed];
    let first = Instant::now();
    whole_storm(&beds);
    let process = Process::new(sensors.pid());
    let (memory, ticks) = (memory_kb(sensors.pid(), "VmHWM"), process.ticks().unwrap());

    let (begun, used) = (Instant::now(), beds[0].used());
    let storm = begin(&beds);
    let miner = beds[0].start_as(OsStr::new("xmrig"), &[OsStr::new("compute")]);
    storm.into_iter().for_each(Hostile::ends_well);
    let (took, used) = (begun.elapsed(), beds[0].used() - used);
    // Told by name, at its start or while it goes on; and what was missed, once a second at most.
    let most_told = TOLD_A_SECOND * (first.elapsed().as_secs() + 4);
    let (mut named, mut missed, mut lines) = (false, 0, 0);
    while !named || missed + most_told < 2 * STARTS {
        let line = said.next().unwrap();
        let reading = line["reading"].as_str().unwrap_or_default();
        assert!(!reading.contains(char::is_control), "{line}");
        named |= reading.contains("\"xmrig\"") && line["pid"] == miner.pid();
        missed = line["starts_missed"]["too_fast"].as_u64().unwrap_or(missed);
        lines += 1;
    }
    let spent = Duration::from_millis(10 * (process.ticks().unwrap() - ticks));
    let grown = memory_kb(sensors.pid(), "VmHWM").saturating_sub(memory);
    println!(
        "{:.0} starts a second, {missed} of {} missed and told in {lines} lines; {spent:?} of \
         processor time beside the storm's {used:?}; grown by {grown} kB",
        a_second(took),
        2 * STARTS
    );
    assert!(missed <= 2 * STARTS);
    assert!(grown < 8 << 10, "grown by {grown} kB");
    // It also looks for the miner all the while.
    assert!(spent < used / 2, "{spent:?} of {used:?}");
}

#[test]
fn where_the_connector_tells_of_starts_a_storm_is_counted_and_the_miner_in_it_found() {
    let bed = Bed::new();
    let mut sensors = sensors_on(Path::new("/nonexistent/btf"));
    sensors.guard(BTreeMap::from([(bed.id, bed.directory.clone())]));
    let suspects = [Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: "alice".to_owned(),
    }];
    let beds = [bed];
    let storm = begin(&beds);
    let miner = beds[0].start_as(OsStr::new("xmrig"), &[OsStr::new("compute")]);
    let mut named = false;
    for round in 0..300 {
        let (now, begun) = (Time(Duration::from_secs(round)), Instant::now());
        let mut found = sensors.look(&suspects, now);
        found.extend(sensors.listen(now));
        named |= found.iter().any(|one| {
            one.evidence.fact == Fact::Named("xmrig") && one.evidence.pid == miner.pid()
        });
        assert!(begun.elapsed() < QUICK, "{:?}", begun.elapsed());
        if named {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(named);
    storm.into_iter().for_each(Hostile::ends_well);
    let missed = sensors.starts_missed();
    println!("{missed:?} of {STARTS}");
    assert!(
        missed.too_fast + missed.ended + missed.overflows > 0,
        "{missed:?}"
    );
}
