//! `hubwarden sense`: the senses on one cgroup, without a daemon; for the corpus and for people
//! who want to know what hubwarden would see. Prints one JSON object a line.

use super::Failure;
use crate::evidence::modes::Modes;
use crate::evidence::senses::{Senses, Suspect};
use crate::judge::suspicion;
use crate::units::Time;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) fn sense(directory: &Path, seconds: u64) -> Result<(), Failure> {
    let id = std::fs::metadata(directory)
        .map_err(|error| Failure::input(format!("{}: {error}", directory.display())))?
        .ino();
    let mut senses = Senses::start();
    for blind in senses.blind() {
        println!("{}", serde_json::json!({ "blind": blind.to_string() }));
    }
    senses.guard(BTreeMap::from([(id, directory.to_owned())]));
    let suspects = [Suspect {
        id,
        directory: directory.to_owned(),
    }];
    let begun = Instant::now();
    let end = Duration::from_secs(seconds);
    let mut evidence = Vec::new();
    let mut told = None;
    let mut modes = Modes::default();
    while begun.elapsed() < end {
        let now = Time(begun.elapsed());
        let heard = senses.listen(now);
        for found in senses.look(&suspects, now).into_iter().chain(heard) {
            let seconds = begun.elapsed().as_secs_f64();
            let reading = found.evidence.to_string();
            println!(
                "{}",
                serde_json::json!({ "seconds": seconds, "reading": reading })
            );
            evidence.push(found.evidence);
        }
        let level = suspicion(&evidence, Some(begun.elapsed()));
        if level != told {
            let seconds = begun.elapsed().as_secs_f64();
            let level = level.map(|level| level.as_str());
            println!(
                "{}",
                serde_json::json!({ "seconds": seconds, "level": level })
            );
            told = suspicion(&evidence, Some(begun.elapsed()));
        }
        for counted in senses.counted() {
            if counted.modes.total() > modes.total() {
                modes = counted.modes;
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    println!(
        "{}",
        serde_json::json!({ "modes": modes.to_string(), "published_rule": modes.published_rule() })
    );
    Ok(())
}
