//! `make bench`: prints `figure NAME VALUE UNIT`, one a line and nothing else on those lines.
//!
//! Compared ways run side by side in one process, interleaved, so that a noisy machine disturbs
//! all alike. A group ends within five minutes.

#![allow(missing_docs, reason = "a program, not an interface")]

mod bed;
mod cgroup;
mod contained;
mod coverage;
mod daemon;
mod egress;
mod evidence;
mod judge;
mod kindness;
mod names;
mod repair;
mod unguarded;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes this to every bench binary.
    let mut words = arguments.iter().filter(|word| *word != "--bench");
    let first = words.next().map(String::as_str);
    match first {
        Some("daemon-child") => {
            let mut next = || words.next().expect("a size, and how many compute");
            daemon::child(next(), next());
        }
        // The sensors' workers are the running program, and that is this one here.
        Some("worker") => evidence::work(words.next().expect("what with")),
        Some("evidence-child") => evidence::child(words.next().expect("what to do")),
        Some("egress-child") => egress::child(),
        Some("names-child") => names::child(),
        Some("repair-child") => repair::child(),
        Some("unguarded-child") => unguarded::child(),
        Some("unguarded-daemon") => {
            let mut next = || words.next().expect("a slice and a directory");
            unguarded::daemon(next(), next());
        }
        Some("unguarded-sender") => unguarded::sender(),
        Some("cgroup") => cgroup::run(),
        Some("coverage") => coverage::run(),
        Some("daemon") => daemon::run(),
        Some("judge") => {
            judge::run();
            kindness::run();
        }
        Some("egress") => egress::run(),
        Some("evidence") => evidence::run(),
        None => {
            cgroup::run();
            coverage::run();
            daemon::run();
            egress::run();
            evidence::run();
            judge::run();
            kindness::run();
        }
        Some(other) => {
            eprintln!(
                "unknown group `{other}`; there are: cgroup, coverage, daemon, egress, evidence, judge"
            );
            std::process::exit(2);
        }
    }
}

/// Prints one figure.
fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}
