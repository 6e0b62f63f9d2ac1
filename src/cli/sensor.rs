//! `hubwarden sensor`: the sensors on one cgroup, without a daemon; for the corpus and for people
//! who want to know what hubwarden would see. Prints one JSON object a line.

use super::Failure;
use crate::config::Config;
use cgroup::stat::CpuStat;
use policy::finding::Modes;
use policy::finding::{Evidence, Fact};
use policy::suspicion;
use quantities::{Cores, Time};
use sensors::connector::Missed;
use sensors::set::{Sensors, Suspect};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// As often as the daemon's sensors look.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn sensor(directory: &Path, seconds: u64) -> Result<(), Failure> {
    let refused =
        |error: std::io::Error| Failure::input(format!("{}: {error}", directory.display()));
    let id = std::fs::metadata(directory).map_err(refused)?.ino();
    let mut heat = Heat::new(directory).map_err(refused)?;
    let mut sensors = Sensors::start();
    sensors.guard(BTreeMap::from([(id, directory.to_owned())]));
    for down in sensors.down() {
        print(&json!({ "down": down.to_string() }));
    }
    let suspects = [Suspect {
        id,
        directory: directory.to_owned(),
        user: String::new(),
    }];
    // Watched from now on, so that whoever starts the program now is measured from its start.
    sensors.look(&suspects, Time(Duration::ZERO));
    print(&json!({ "ready": true }));
    let begun = Instant::now();
    let end = Duration::from_secs(seconds);
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut told = None;
    let mut modes = Modes::default();
    let mut missed = Missed::default();
    while begun.elapsed() < end {
        let next = begun.elapsed() + EVERY;
        let now = Time(begun.elapsed());
        let heard = sensors.listen(now);
        for found in sensors.look(&suspects, now).into_iter().chain(heard) {
            print(&reading(&found.evidence, begun.elapsed()));
            evidence.push(found.evidence);
        }
        let level = suspicion(&evidence, heat.lasts(now).map_err(refused)?);
        if level > told {
            let level = level.map(|level| level.as_str());
            print(&json!({ "seconds": begun.elapsed().as_secs_f64(), "level": level }));
        }
        told = told.max(level);
        for counted in sensors.counted() {
            if counted.modes.total() > modes.total() {
                modes = counted.modes;
            }
        }
        let now_missed = sensors.starts_missed();
        if now_missed != missed {
            missed = now_missed;
            let Missed {
                too_fast,
                ended,
                overflows,
            } = missed;
            let missed = json!({ "too_fast": too_fast, "ended": ended, "overflows": overflows });
            print(&json!({ "starts_missed": missed }));
        }
        std::thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    print(&json!({
        "modes": { "down": modes.down, "up": modes.up, "zero": modes.zero, "flushed": modes.flushed },
        "published_rule": modes.published_rule(),
    }));
    Ok(())
}

/// One line, written at once: whoever reads is a program that waits for it.
fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn reading(evidence: &Evidence, at: Duration) -> Value {
    json!({
        "seconds": at.as_secs_f64(),
        "pid": evidence.pid,
        "sensor": evidence.fact.sensor().as_str(),
        "strength": evidence.strength().as_str(),
        "reading": evidence.to_string(),
        "short": short(&evidence.fact),
    })
}

/// For a table's cell.
fn short(fact: &Fact) -> String {
    match fact {
        Fact::Constants { found } => format!("{found}/7"),
        Fact::Named(pattern) => format!("{pattern:?}"),
        Fact::NoPythonInPython => "no Python in python".to_owned(),
        Fact::Stratum { word, port } => format!("{word} to port {port}"),
        other => other.to_string(),
    }
}

/// For how long a cgroup has been hot.
struct Heat<'a> {
    directory: &'a Path,
    used: Duration,
    at: Time,
    since: Option<Time>,
    /// More than this is hot, where nobody configured anything else.
    hot: Cores,
}

impl Heat<'_> {
    fn new(directory: &Path) -> std::io::Result<Heat<'_>> {
        let used = used(directory)?;
        Ok(Heat {
            directory,
            used,
            at: Time(Duration::ZERO),
            since: None,
            hot: Config::default().evidence.hot,
        })
    }

    fn lasts(&mut self, now: Time) -> std::io::Result<Option<Duration>> {
        let used = used(self.directory)?;
        let span = now.since(self.at).as_secs_f64();
        if span > 0.0 {
            let rate = Cores(used.saturating_sub(self.used).as_secs_f64() / span);
            self.since = (rate > self.hot).then(|| self.since.unwrap_or(self.at));
        }
        (self.used, self.at) = (used, now);
        Ok(self.since.map(|since| now.since(since)))
    }
}

fn used(directory: &Path) -> std::io::Result<Duration> {
    let text = std::fs::read(directory.join("cpu.stat"))?;
    let stat = CpuStat::parse(&text).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(stat.usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_begins_with_use_and_ends_with_rest() {
        let directory = tempfile::tempdir().unwrap();
        let spend = |usec: u64| {
            std::fs::write(
                directory.path().join("cpu.stat"),
                format!("usage_usec {usec}\nuser_usec 0\nsystem_usec 0\n"),
            )
            .unwrap();
        };
        let at = |seconds| Time(Duration::from_secs(seconds));
        spend(0);
        let mut heat = Heat::new(directory.path()).unwrap();
        spend(50_000);
        assert_eq!(heat.lasts(at(1)).unwrap(), None);
        spend(1_000_000);
        assert_eq!(heat.lasts(at(2)).unwrap(), Some(Duration::from_secs(1)));
        spend(2_000_000);
        assert_eq!(heat.lasts(at(3)).unwrap(), Some(Duration::from_secs(2)));
        assert_eq!(heat.lasts(at(4)).unwrap(), None);
    }
}
