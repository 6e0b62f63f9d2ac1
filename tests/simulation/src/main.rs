//! Plays schedules: `simulate --seeds 100000`, or one of them with its story: `simulate --seed 7`.

use hubwarden_core::faults::{Fault, build_in};
use simulation::Schedule;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut one, mut fault) = (2000, None, None);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (argument.as_str(), value.parse::<u64>()) {
            ("--seeds", Ok(number)) => seeds = number,
            ("--seed", Ok(number)) => one = Some(number),
            ("--fault", _) => {
                fault = Fault::ALL
                    .into_iter()
                    .find(|fault| format!("{fault:?}") == value);
                if fault.is_none() {
                    eprintln!("no fault is called {value:?}; there are {:?}", Fault::ALL);
                    return ExitCode::from(2);
                }
            }
            _ => {
                eprintln!("usage: simulate [--seeds NUMBER | --seed SEED] [--fault NAME]");
                return ExitCode::from(2);
            }
        }
    }
    match one {
        Some(seed) => tell(seed, fault),
        None => play_all(seeds, fault),
    }
}

/// One seed, with the shortest story that breaks too.
fn tell(seed: u64, fault: Option<Fault>) -> ExitCode {
    build_in(fault);
    let schedule = Schedule::of(seed);
    let outcome = schedule.play();
    let Some(broken) = outcome.broken else {
        println!("seed {seed}: {} steps, nothing breaks", outcome.steps);
        return ExitCode::SUCCESS;
    };
    println!("seed {seed}: {broken}\n\nThe shortest schedule that breaks too:");
    let shorter = schedule.shorter().play_and_tell(true);
    for line in &shorter.story {
        println!("{line}");
    }
    if let Some(broken) = shorter.broken {
        println!("{broken}");
    }
    ExitCode::FAILURE
}

fn play_all(seeds: u64, fault: Option<Fault>) -> ExitCode {
    let begun = Instant::now();
    let (next, steps, crashes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let broken: Vec<(u64, String)> = std::thread::scope(|scope| {
        let worker = || {
            build_in(fault);
            let mut broken = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return broken;
                }
                let outcome = Schedule::of(seed).play();
                steps.fetch_add(outcome.steps, Ordering::Relaxed);
                crashes.fetch_add(outcome.crashes, Ordering::Relaxed);
                broken.extend(outcome.broken.map(|what| (seed, what.to_string())));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    for (seed, what) in broken.iter().take(10) {
        println!("seed {seed}: {what} (make simulate SEED={seed} tells the story)");
    }
    println!("figure sim_violations {}", broken.len());
    println!("figure sim_crashes {}", crashes.into_inner());
    println!("figure sim_steps {}", steps.into_inner());
    println!("figure sim_seconds {:.1}", begun.elapsed().as_secs_f64());
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
