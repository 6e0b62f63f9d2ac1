//! Who may import whom. The flow of data is kernel → `hub`, `cgroup`, `evidence` → `judge` → `act`,
//! `egress`, `report`; this keeps it so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each wing with those that it imports from, of which all stand before it. The flow has one
/// exception: `config` says what an admin wants in the wings' own words (classes, limits, levels of
/// evidence), and the wings that need a section of it take that as it is (`hub`, `record`,
/// `report`). So `hub` knows of `config`, and by it of types of `egress` and `judge`. From `egress` it
/// takes netlink's answer to who is at the other end of a connection.
const WINGS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("memory", &[]),
    ("http", &[]),
    ("readiness", &[]),
    ("heartbeats", &[]),
    ("bus_socket", &[]),
    ("sd_bus", &["bus_socket"]),
    ("cgroup", &[]),
    ("evidence", &["units", "cgroup"]),
    ("judge", &["units", "evidence"]),
    ("egress", &["units", "cgroup"]),
    ("config", &["units", "http", "evidence", "judge", "egress"]),
    (
        "hub",
        &["units", "http", "sd_bus", "cgroup", "egress", "config"],
    ),
    ("record", &["units", "cgroup", "config"]),
    ("replay", &["units", "judge", "record"]),
    (
        "act",
        &["units", "sd_bus", "cgroup", "evidence", "judge", "hub"],
    ),
    (
        "report",
        &[
            "units",
            "heartbeats",
            "cgroup",
            "evidence",
            "judge",
            "egress",
            "config",
            "hub",
        ],
    ),
    ("control", &["bus_socket", "hub"]),
];
/// These know all.
const ROOMS_THAT_KNOW_ALL: [&str; 3] = ["daemon", "cli", "main"];

/// What files of each wing import from other wings, with a file that does. Tests may know more.
fn imports() -> BTreeMap<String, BTreeMap<String, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(&root).unwrap().with_extension("");
        let name = name.to_str().unwrap();
        let is_test = name.split('/').any(|part| part == "tests");
        if path.extension().is_none_or(|e| e != "rs")
            || is_test
            || ["lib", "wings", "seams"].contains(&name)
        {
            continue;
        }
        let wing = name.split('/').next().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut code = text.as_str();
        for module in ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "] {
            let tests = format!("#[cfg(test)]\n{module}");
            code = code.split(tests.as_str()).next().unwrap();
        }
        let of_wing: &mut BTreeMap<_, _> = found.entry(wing.to_owned()).or_default();
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            assert!(
                !line.contains("crate::{"),
                "{name}: one line a wing: {line}"
            );
            for after in line.split("crate::").skip(1) {
                let other = after.split(|c: char| !c.is_alphanumeric() && c != '_');
                let other = other.into_iter().next().unwrap();
                if other != wing {
                    of_wing.insert(other.to_owned(), name.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn no_wing_imports_against_the_flow() {
    let allowed: BTreeMap<&str, &[&str]> = WINGS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (wing, others) in imports() {
        if ROOMS_THAT_KNOW_ALL.contains(&wing.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(wing.as_str()) else {
            panic!("{wing} has no place in WINGS");
        };
        for (other, file) in others {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("src/{file}.rs imports from {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_import_that_is_allowed_is_made_and_stands_before_its_wing() {
    let made = imports();
    let mut before = BTreeSet::new();
    for (wing, others) in WINGS {
        for other in *others {
            assert!(
                before.contains(other),
                "{other} does not stand before {wing}"
            );
            assert!(
                made[*wing].contains_key(*other),
                "{wing} does not import from {other} any more"
            );
        }
        before.insert(*wing);
    }
}
