//! What cannot be read, and how much there may be.

use super::bed::{Bed, Shown, kinds};
use crate::config::Config;
use crate::coverage::accounts::Accounts;
use crate::coverage::network::Bridges;
use crate::coverage::processes::{Asked, Scan, complete, scan, scan_within};
use crate::coverage::{Directories, naming};
use hubwarden_core::coverage::{Survey, Watch, survey};
use proptest::prelude::*;
use sensors::workers::Owner;
use std::collections::BTreeMap;
use std::time::Duration;

fn survey_with(
    bed: &Bed,
    ask: &mut dyn FnMut(BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, Asked>,
) -> Survey {
    let watch = Watch {
        known: Default::default(),
        uids: Default::default(),
        listed: Vec::new(),
        naming: naming(&Config::default()),
    };
    let directories = Directories {
        proc: bed.path("proc"),
        transient: bed.path("transient"),
    };
    let (mut accounts, mut bridges) = (Accounts::default(), Bridges::default());
    let found = scan(&directories.proc);
    let facts = complete(
        found,
        &directories,
        &watch,
        ask,
        &mut accounts,
        &mut bridges,
    );
    survey(&facts, &watch)
}

#[test]
fn who_holds_up_readers_is_a_row_and_the_others_are_judged() {
    let bed = Bed::new();
    let container = format!("docker/{}", super::bed::ID);
    bed.runs(10, &container, &["x"]);
    bed.runs(11, "jhub.slice/a.service", &["jupyter-lab"]);
    let proc = bed.path("proc");
    let survey = survey_with(&bed, &mut |jobs| {
        assert_eq!(jobs.len(), 2, "one for each place: {jobs:?}");
        let read =
            |(owner, pids): (Owner, Vec<u32>)| (owner, super::super::processes::said(&proc, &pids));
        let held = |(owner, _): &(Owner, Vec<u32>)| !owner.contains("docker");
        jobs.into_iter().filter(held).map(read).collect()
    });
    assert_eq!(kinds(&survey), ["unit-name", "not-readable"]);
    assert_eq!(survey.unseen, 0);
}

#[test]
fn where_no_worker_can_be_started_no_user_is_at_fault() {
    let bed = Bed::new();
    bed.runs(10, "jhub.slice/a.service", &["jupyter-lab"]);
    let survey = survey_with(&bed, &mut |_| BTreeMap::new());
    assert_eq!((kinds(&survey), survey.unseen), (vec![], 1));
    let lines = crate::coverage::check_lines(&survey);
    assert!(lines[0].1.starts_with("1 more process"), "{lines:?}");
}

#[test]
fn an_answer_on_a_pid_that_was_given_anew_counts_for_nothing() {
    let bed = Bed::new();
    bed.runs(10, "jhub.slice/a.service", &["jupyter-lab"]);
    let proc = bed.path("proc");
    let survey = survey_with(&bed, &mut |jobs| {
        let read =
            |(owner, pids): (Owner, Vec<u32>)| (owner, super::super::processes::said(&proc, &pids));
        let answers = jobs.into_iter().map(read).collect();
        std::fs::write(proc.join("10/cgroup"), "0::/system.slice/cron.service\n").unwrap();
        answers
    });
    assert_eq!(kinds(&survey), [""; 0]);
}

#[test]
fn more_processes_than_there_is_room_for_are_counted() {
    let bed = Bed::new();
    for pid in 1..=7 {
        bed.runs(pid, "system.slice/x.service", &["x"]);
    }
    let proc = bed.path("proc");
    let seen = |scan: Scan| (scan.cgroups().count(), scan.unseen);
    assert_eq!(seen(scan_within(&proc, 5, Duration::from_secs(60))), (5, 2));
    assert_eq!(seen(scan_within(&proc, 5, Duration::ZERO)), (0, 7));
    assert_eq!(seen(scan(&bed.path("none"))), (0, 0));
}

#[test]
fn the_processes_of_this_machine_can_be_surveyed() {
    let mut surveyor = crate::coverage::Surveyor::new(&sensors::workers::Holders::default());
    let survey = surveyor.survey_by(&Config::default());
    assert!(survey.rows.len() <= hubwarden_core::coverage::MOST_ROWS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_a_process_make_it_panic(
        cgroup in "\\PC{0,40}",
        arguments in proptest::collection::vec(any::<u8>(), 0..64),
        environment in proptest::collection::vec(any::<u8>(), 0..64),
        stat in proptest::collection::vec(any::<u8>(), 0..64),
        devices in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bed = Bed::new();
        let cgroup = format!("0::/{cgroup}");
        let shown = Shown {
            cgroup: &cgroup,
            arguments: &arguments,
            environment: &environment,
            network: 7,
            ..Shown::default()
        };
        bed.process(10, &shown);
        std::fs::write(bed.path("proc/10/stat"), &stat).unwrap();
        std::fs::write(bed.path("proc/10/net/dev"), &devices).unwrap();
        let survey = bed.by("");
        for (_, text) in crate::coverage::check_lines(&survey) {
            prop_assert!(!text.chars().any(char::is_control), "{}", text);
        }
    }
}
