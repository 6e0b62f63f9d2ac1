use super::bed::Bed;
use crate::coverage::{check_lines, entries, statuses};
use crate::report::{Kind, Level};
use hubwarden_core::coverage::{Changes, Survey, Weight};
use quantities::Time;
use std::time::Duration;

fn survey() -> Survey {
    let mut bed = Bed::new();
    for (pid, unit) in [(10, "a"), (11, "b"), (12, "c"), (13, "d")] {
        bed.runs(
            pid,
            &format!("jhub.slice/{unit}.service"),
            &["jupyter-labhub"],
        );
    }
    bed.runs(20, "system.slice/lab.service", &["jupyter-lab"]);
    bed.unit_file("lab.service");
    bed.by("")
}

#[test]
fn check_has_a_line_for_each_reason() {
    let lines = check_lines(&survey());
    let weights: Vec<Weight> = lines.iter().map(|(weight, _)| *weight).collect();
    assert_eq!(weights, [Weight::Bad, Weight::Note]);
    let expected = "in /jhub.slice/a.service, /jhub.slice/b.service, /jhub.slice/c.service, 1 more: \
                    the unit's name fits no template in unit_names";
    assert!(lines[0].1.contains(expected), "{}", lines[0].1);
    assert!(
        lines[0].1.ends_with("to unit_names in [hub]"),
        "{}",
        lines[0].1
    );
}

#[test]
fn json_has_every_row_with_the_line_that_mends_it() {
    let rows = statuses(&survey());
    assert_eq!(rows.len(), 5);
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(json["kind"], "unit-name");
    assert_eq!(json["cgroup"], "/jhub.slice/a.service");
    assert_eq!(json["config"], "");
    assert_eq!(
        (json["cpu"].as_bool(), json["packets"].as_bool()),
        (Some(false), Some(false))
    );
    assert_eq!(rows[4].weight, "note");
    let mut bed = Bed::new();
    let container = format!("system.slice/docker-{}.scope", "ab".repeat(32));
    bed.runs(10, &container, &["jupyter-labhub"]);
    let rows = statuses(&bed.by("[hub]\ndocker = \"none\"\n"));
    assert_eq!(rows[0].config, "docker = \"/run/docker.sock\"");
}

#[test]
fn the_journal_has_an_entry_for_each_reason_once_and_one_when_it_is_over() {
    let mut changes = Changes::default();
    let at = |seconds| Time(Duration::from_secs(seconds));
    let first = entries(&changes.update(&survey(), at(0)), true);
    let kinds: Vec<(Kind, Level)> = first
        .iter()
        .map(|entry| (entry.kind, entry.level))
        .collect();
    assert_eq!(
        kinds,
        [
            (Kind::NotCovered, Level::Warning),
            (Kind::NotCovered, Level::Notice)
        ]
    );
    let (text, _) = (&check_lines(&survey())[0].1, ());
    assert_eq!(first[0].message, format!("{text}."));
    let cgroups = first[0].fields.iter().filter(|(key, _)| *key == "CGROUP");
    assert_eq!(cgroups.count(), 4);
    assert!(entries(&changes.update(&survey(), at(60)), true).is_empty());
    let over = entries(&changes.update(&Survey::default(), at(1000)), true);
    assert!(over.iter().all(|entry| entry.kind == Kind::CoveredAgain));
    assert_eq!(
        over[1].message,
        "Covered now, or gone (unit-name): /jhub.slice/a.service, /jhub.slice/b.service, \
         /jhub.slice/c.service, /jhub.slice/d.service."
    );
}

#[test]
fn that_processes_were_not_looked_at_is_logged_once() {
    let survey = Survey {
        unseen: 3,
        ..Survey::default()
    };
    let mut changes = Changes::default();
    let difference = changes.update(&survey, Time::default());
    let logged = entries(&difference, true);
    assert!(
        logged[0]
            .message
            .starts_with("3 more processes were not looked at")
    );
    assert!(entries(&changes.update(&survey, Time::default()), true).is_empty());
}
