//! The simulation finds each of the deliberate faults, and nothing where there is none.

use hubwarden_core::faults::{Fault, build_in};
use simulation::Schedule;

/// Within so many seeds.
const SEEDS: u64 = 2000;

#[test]
fn each_deliberate_fault_is_found() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        build_in(Some(fault));
        let found = (0..SEEDS).find(|seed| Schedule::of(*seed).play().broken.is_some());
        match found {
            Some(seed) => println!("{fault:?}: seed {seed}"),
            None => missed.push(fault),
        }
    }
    build_in(None);
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

#[test]
fn without_a_fault_nothing_breaks() {
    for seed in 0..SEEDS {
        let broken = Schedule::of(seed).play().broken;
        assert_eq!(broken, None, "seed {seed}");
    }
}

/// Seeds that once failed, and what they showed.
#[test]
fn what_was_found_stays_mended() {
    let seeds = include_str!("../seeds");
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        let seed = line.split_whitespace().next().unwrap_or_default();
        let seed: u64 = seed.parse().expect("a seed begins each line");
        let broken = Schedule::of(seed).play().broken;
        assert_eq!(broken, None, "{line}");
    }
}

#[test]
fn a_seed_plays_alike_each_time_and_a_shorter_schedule_breaks_alike() {
    build_in(Some(Fault::RestoreSkipped));
    let broken = |seed: &u64| Schedule::of(*seed).play().broken.is_some();
    let seed = (0..SEEDS).find(broken).expect("it is found");
    let schedule = Schedule::of(seed);
    let (first, second) = (schedule.play(), schedule.play());
    assert_eq!(first.story, second.story);
    let shorter = schedule.shorter();
    assert!(shorter.steps.len() < schedule.steps.len());
    let invariant = |broken: Option<simulation::Broken>| broken.map(|broken| broken.invariant);
    assert_eq!(invariant(shorter.play().broken), invariant(first.broken));
    build_in(None);
}
