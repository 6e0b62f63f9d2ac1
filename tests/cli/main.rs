//! The command line as a shell sees it: what it writes, where to, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod generated;
mod survey;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn hubwarden(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubwarden"));
    command
        .args(arguments)
        // No daemon of this machine's answers.
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    hubwarden(arguments).output().unwrap()
}

/// A pipe that nobody reads from any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A state directory with an imported list.
fn state() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let feed = state.path().join("feed");
    std::fs::write(&feed, "192.0.2.0/24\npool.example\n").unwrap();
    let state_arguments = ["--state", text(state.path())];
    let feed = text(&feed).to_owned();
    let imported = run(&[
        &["lists", "import", &feed, "--name", "feed"],
        &state_arguments[..],
    ]
    .concat());
    assert!(imported.status.success(), "{imported:?}");
    state
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Verbs that write without a daemon, each with what its first line begins with.
fn verbs(state: &Path) -> Vec<(Vec<&str>, &'static str)> {
    vec![
        (vec!["lists", "--state", text(state)], "LIST "),
        (
            vec!["replay", "--generate", "--users", "50", "--days", "2"],
            "Policy of ",
        ),
        (vec!["replay", "--generate", "--users", "50", "--json"], "{"),
        (
            vec!["check-config", "config.example.toml"],
            "config.example",
        ),
        (vec!["--help"], "The supervisor that keeps"),
        (vec!["--version"], "hubwarden "),
    ]
}

#[test]
fn each_verb_that_needs_no_daemon_writes_and_succeeds() {
    let state = state();
    for (verb, begins) in verbs(state.path()) {
        let output = run(&verb);
        assert!(output.status.success(), "{verb:?}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(begins), "{verb:?}: {said}");
        assert!(said.ends_with('\n') && !said.ends_with("\n\n"), "{verb:?}");
    }
}

#[test]
fn a_reader_that_hangs_up_is_no_failure_and_nothing_panics() {
    let state = state();
    for (verb, _) in verbs(state.path()) {
        let output = hubwarden(&verb).stdout(closed()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{verb:?}: {} {said}",
            output.status
        );
        assert_eq!(said, "", "{verb:?}");
    }
}

#[test]
fn a_failure_with_nobody_to_tell_is_still_its_exit_code() {
    let asks = [
        vec!["status"],
        vec!["flows"],
        vec!["explain", "alice"],
        vec!["grants"],
        vec![
            "grant", "alice", "--cpu", "2", "--for", "1h", "--reason", "x",
        ],
        vec!["revoke", "alice"],
        vec!["reload"],
        vec!["check-config", "/nowhere"],
        vec!["lists", "import", "/nowhere", "--name", "x"],
    ];
    for verb in asks {
        let mut command = hubwarden(&verb);
        let output = command.stdout(closed()).stderr(closed()).output().unwrap();
        // A panic's is 101.
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "{verb:?}: {}", output.status);
    }
}

#[test]
fn a_full_disk_is_a_failure_that_is_named() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut child = hubwarden(&["replay", "--generate", "--users", "5", "--days", "1"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.starts_with("hubwarden: standard output: "), "{said}");
}

#[test]
fn without_a_daemon_each_verb_that_asks_one_says_so_in_a_line() {
    for verb in [&["status"][..], &["flows"], &["grants"], &["reload"]] {
        let output = run(verb);
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert_eq!(output.stdout, b"", "{verb:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("hubwarden: "), "{verb:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{verb:?}: {said}");
    }
}
