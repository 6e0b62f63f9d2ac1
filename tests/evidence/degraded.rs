//! Kernels that refuse a sensor: what is said of it, and that the others find a miner all the same.

use crate::bed::{Bed, sensors_on};
use policy::finding::Fact;
use quantities::Time;
use sensors::program;
use sensors::set::{SensorDown, Suspect};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What is down there, and what the rest finds of a miner that starts with a pool's address.
fn blind_and_found(types: &Path) -> (Vec<SensorDown>, Vec<Fact>) {
    let bed = Bed::new();
    let mut sensors = sensors_on(types);
    sensors.guard(BTreeMap::from([(bed.id, bed.directory.clone())]));
    let _miner = bed.start(&[OsStr::new("within"), OsStr::new("stratum+tcp://pool")]);
    let suspects = [Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: "alice".to_owned(),
    }];
    let is_constants = |fact: &Fact| matches!(fact, Fact::Constants { .. });
    let (mut heard, mut facts) = (Vec::new(), Vec::new());
    // It may not have written its code at the first look, and on a busy machine there is not time.
    for round in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        let now = Time(Duration::from_secs(round * 40));
        // Names are asked of what was heard alone: as of a server that is not hot.
        heard.extend(sensors.listen(now).iter().map(|one| one.evidence.fact));
        let found = sensors.look(&suspects, now);
        facts.extend(found.iter().map(|one| one.evidence.fact));
        facts.retain(is_constants);
        if facts.contains(&CONSTANTS) && !heard.is_empty() {
            break;
        }
    }
    facts.extend(heard);
    (sensors.down().to_vec(), facts)
}

fn of<'a>(down: &'a [SensorDown], sensor: &str) -> &'a SensorDown {
    let mut of = down.iter().filter(|one| one.sensor.as_str() == sensor);
    of.next()
        .unwrap_or_else(|| panic!("{sensor} is not among {down:?}"))
}

const NAMED: Fact = Fact::Named("stratum+tcp://");
const CONSTANTS: Fact = Fact::Constants { found: 7 };

#[test]
fn without_type_information_starts_are_told_by_the_connector_and_memory_is_searched() {
    let (down, found) = blind_and_found(Path::new("/nonexistent/btf"));
    assert_eq!(down.len(), 2, "{down:?}");
    let rounding = of(&down, "rounding");
    assert!(rounding.why.contains("CONFIG_DEBUG_INFO_BTF"), "{rounding}");
    assert!(
        rounding.remains.contains("constants in memory"),
        "{rounding}"
    );
    let exec = of(&down, "exec");
    assert!(exec.remains.contains("process connector"), "{exec}");
    assert!(found.contains(&NAMED), "{found:?}");
    assert!(found.contains(&CONSTANTS), "{found:?}");
}

#[test]
fn without_the_tracepoint_as_on_arm64_only_rounding_is_down() {
    // The kernel's own description, with the name of the one tracepoint spoilt.
    let mut types = fs::read(program::TYPES).expect("a kernel that describes its types");
    let name = b"x86_fpu_regs_deactivated";
    let places: Vec<usize> = (0..types.len() - name.len())
        .filter(|at| types[*at..].starts_with(name))
        .collect();
    assert!(!places.is_empty(), "this kernel has no such tracepoint");
    for place in places {
        types[place..place + 3].copy_from_slice(b"arm");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("btf");
    fs::write(&file, types).unwrap();
    let (down, found) = blind_and_found(&file);
    assert_eq!(down.len(), 1, "{down:?}");
    let rounding = of(&down, "rounding");
    assert!(
        rounding.why.contains("it is there on x86 only"),
        "{rounding}"
    );
    assert!(
        rounding.why.contains("x86_fpu_regs_deactivated"),
        "{rounding}"
    );
    assert!(found.contains(&NAMED), "{found:?}");
    assert!(found.contains(&CONSTANTS), "{found:?}");
}

#[test]
fn where_bpf_is_refused_as_under_lockdown_each_of_its_senses_says_so_and_memory_is_searched() {
    let bed = Bed::new();
    // The kernel's own EPERM, for want of rights.
    let mut sensors = Command::new("setpriv")
        .args(["--bounding-set=-bpf,-perfmon,-sys_admin", "--"])
        .arg(env!("CARGO_BIN_EXE_hubwarden"))
        .arg("sensor")
        .arg(&bed.directory)
        .args(["--seconds", "120"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("setpriv, of util-linux");
    let _miner = bed.start(&[OsStr::new("within")]);
    let constants = "7 of RandomX's 7 constants";
    let mut said = String::new();
    for line in BufReader::new(sensors.stdout.take().unwrap()).lines() {
        said.push_str(&line.unwrap());
        said.push('\n');
        if said.contains(constants) {
            break;
        }
    }
    sensors.kill().unwrap();
    sensors.wait().unwrap();
    let down: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("\"down\""))
        .collect();
    assert_eq!(down.len(), 3, "{said}");
    for (sensor, remains) in [
        ("rounding: ", "constants in memory"),
        ("exec: ", "process connector tells of starts instead"),
        ("stratum: ", "known by their addresses"),
    ] {
        let mut of = down.iter().filter(|line| line.contains(sensor));
        let line = of.next().unwrap_or_else(|| panic!("{sensor}: {said}"));
        assert!(line.contains("not permitted"), "{line}");
        assert!(line.contains(remains), "{line}");
    }
    assert!(said.contains(constants), "{said}");
}
