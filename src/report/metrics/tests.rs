use super::*;
use crate::config::{Listen, Metrics};
use policy::Stage;
use quantities::CgroupId;
use quantities::{CoreSeconds, Cores};
use sensors::connector::Missed;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);

fn server(user: &str, cpu: u32) -> ServerMetrics {
    ServerMetrics {
        user: user.into(),
        server: String::new(),
        cpu: cpu * SECOND,
        throttled: Some(Duration::from_millis(500)),
        credits: CoreSeconds(1800.0),
        credits_size: CoreSeconds(3600.0),
        limit: Some(Cores(0.25)),
        stage: Stage::Throttled,
        memory: Some(1 << 20),
        pids: Some(7),
        verdicts: Tally::default(),
        refusals: 0,
        sent_packets: 0,
        sent_bytes: 0,
    }
}

fn reading(id: u64, user: &str, cpu: u32) -> Reading {
    Reading {
        id: CgroupId(id),
        server: server(user, cpu),
    }
}

fn book(ledger: &mut Ledger, readings: Vec<Reading>) -> MetricsSnapshot {
    let mut snapshot = MetricsSnapshot {
        user_names: true,
        ..MetricsSnapshot::default()
    };
    ledger.book(readings, &mut snapshot);
    snapshot
}

fn text(snapshot: MetricsSnapshot, format: Format) -> String {
    format.write(Arc::new(snapshot)).unwrap()
}

#[test]
fn a_servers_numbers_stand_under_its_user() {
    let mut ledger = Ledger::default();
    ledger.verdict(CgroupId(1), Stage::Throttled);
    ledger.refused(Some(CgroupId(1)), 40);
    ledger.refused(None, 2);
    ledger.told();
    ledger.ticked(Duration::from_millis(3));
    let snapshot = book(&mut ledger, vec![reading(1, "alice", 10)]);
    let text = text(snapshot, Format::Prometheus);
    for line in [
        "# TYPE hubwarden_server_cpu_seconds_total counter",
        "hubwarden_server_cpu_seconds_total{user=\"alice\",server=\"\"} 10.0",
        "hubwarden_server_throttled_seconds_total{user=\"alice\",server=\"\"} 0.5",
        "hubwarden_server_credits_core_seconds{user=\"alice\",server=\"\"} 1800.0",
        "hubwarden_server_limit_cores{user=\"alice\",server=\"\"} 0.25",
        "hubwarden_server_stage{user=\"alice\",server=\"\",stage=\"throttled\"} 1",
        "hubwarden_server_stage{user=\"alice\",server=\"\",stage=\"free\"} 0",
        "hubwarden_server_memory_bytes{user=\"alice\",server=\"\"} 1048576",
        "hubwarden_server_pids{user=\"alice\",server=\"\"} 7",
        "hubwarden_server_verdicts_total{user=\"alice\",server=\"\",stage=\"throttled\"} 1",
        "hubwarden_server_egress_refusals_total{user=\"alice\",server=\"\"} 40",
        "hubwarden_egress_refusals_total 42",
        "hubwarden_egress_refusals_told_total 1",
        "hubwarden_verdicts_total{stage=\"throttled\"} 1",
        "hubwarden_servers{stage=\"throttled\"} 1",
        "hubwarden_tick_duration_seconds_count 1",
        "hubwarden_tick_duration_seconds_bucket{le=\"0.002\"} 0",
        "hubwarden_tick_duration_seconds_bucket{le=\"0.005\"} 1",
        "hubwarden_tick_duration_seconds_bucket{le=\"+Inf\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no `{line}` in\n{text}"
        );
    }
    assert!(
        !text.contains("# EOF") && !text.contains("# UNIT"),
        "{text}"
    );
}

#[test]
fn starts_that_could_not_be_read_are_counted_by_their_reason() {
    let snapshot = MetricsSnapshot {
        starts_missed: Missed {
            too_fast: 3,
            ended: 2,
            overflows: 1,
        },
        ..MetricsSnapshot::default()
    };
    let text = text(snapshot, Format::Prometheus);
    for line in [
        "hubwarden_starts_missed_total{reason=\"too_fast\"} 3",
        "hubwarden_starts_missed_total{reason=\"ended\"} 2",
        "hubwarden_starts_missed_total{reason=\"overflows\"} 1",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_thread_that_does_not_run_is_shown_as_down() {
    let snapshot = MetricsSnapshot {
        threads: vec![("journal", true), ("sensors", false)],
        ..MetricsSnapshot::default()
    };
    let text = text(snapshot, Format::Prometheus);
    for line in [
        "# TYPE hubwarden_thread_up gauge",
        "hubwarden_thread_up{thread=\"journal\"} 1",
        "hubwarden_thread_up{thread=\"sensors\"} 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no `{line}` in\n{text}"
        );
    }
}

#[test]
fn what_became_of_resolvers_answers_is_counted() {
    let snapshot = MetricsSnapshot {
        answers: egress::names::Tally {
            read: 9,
            learned: 8,
            closed: 7,
            refused: 6,
            unasked: 11,
            forgotten: 10,
            truncated: 5,
            malformed: 4,
            failed: 3,
            dropped: 2,
            overrun: 1,
        },
        ..MetricsSnapshot::default()
    };
    let text = text(snapshot, Format::Prometheus);
    for line in [
        "# TYPE hubwarden_dns_answers_read_total counter",
        "hubwarden_dns_answers_read_total 9",
        "hubwarden_dns_addresses_learned_total 8",
        "hubwarden_dns_addresses_private_total 7",
        "hubwarden_dns_answers_refused_total 6",
        "hubwarden_dns_answers_unusable_total{reason=\"unasked\"} 11",
        "hubwarden_dns_questions_forgotten_total 10",
        "hubwarden_dns_answers_unusable_total{reason=\"truncated\"} 5",
        "hubwarden_dns_answers_unusable_total{reason=\"malformed\"} 4",
        "hubwarden_dns_answers_unusable_total{reason=\"failed\"} 3",
        "hubwarden_dns_packets_dropped_total 2",
        "hubwarden_dns_queue_overruns_total 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no `{line}` in\n{text}"
        );
    }
}

#[test]
fn openmetrics_states_units_and_its_end() {
    let text = text(MetricsSnapshot::default(), Format::OpenMetrics);
    assert!(
        text.contains("# TYPE hubwarden_servers_cpu_seconds counter\n"),
        "{text}"
    );
    assert!(
        text.contains("# UNIT hubwarden_servers_cpu_seconds seconds\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_users_name_is_a_label_value_whatever_is_in_it() {
    let name = "a\"} 1\n# HELP x\nevil{x=\"\\";
    let snapshot = book(&mut Ledger::default(), vec![reading(1, name, 1)]);
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = text(snapshot.clone(), format);
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
        let line = r#"hubwarden_server_pids{user="a\"} 1\n# HELP x\nevil{x=\"\\",server=""} 7"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}

#[test]
fn without_user_names_there_are_sums_and_no_user() {
    let mut ledger = Ledger::default();
    book(&mut ledger, vec![reading(1, "alice", 10)]);
    let mut snapshot = MetricsSnapshot::default();
    ledger.book(
        vec![reading(1, "alice", 13), reading(2, "bob", 4)],
        &mut snapshot,
    );
    let text = text(snapshot, Format::Prometheus);
    assert!(!text.contains("alice") && !text.contains("user="), "{text}");
    assert!(
        text.contains("\nhubwarden_servers_cpu_seconds_total 7.0\n"),
        "{text}"
    );
    assert!(text.contains("\nhubwarden_servers_pids 14\n"), "{text}");
    assert!(
        text.contains("\nhubwarden_servers{stage=\"throttled\"} 2\n"),
        "{text}"
    );
}

#[test]
fn series_of_a_server_that_stopped_are_gone_and_sums_never_fall() {
    let mut ledger = Ledger::default();
    book(
        &mut ledger,
        vec![reading(1, "alice", 100), reading(2, "bob", 5)],
    );
    let before = book(
        &mut ledger,
        vec![reading(1, "alice", 110), reading(2, "bob", 5)],
    );
    assert_eq!(before.totals.cpu, 10 * SECOND);
    let after = book(&mut ledger, vec![reading(2, "bob", 6)]);
    assert_eq!(after.totals.cpu, 11 * SECOND);
    assert_eq!(after.servers.len(), 1);
    assert!(!text(after, Format::Prometheus).contains("alice"));
}

/// Two series of one name would make a monitoring system refuse all of them.
#[test]
fn a_server_in_two_cgroups_is_one_series_that_never_falls() {
    let mut ledger = Ledger::default();
    let both = book(
        &mut ledger,
        vec![reading(1, "alice", 100), reading(2, "alice", 5)],
    );
    assert_eq!(both.servers.len(), 1);
    assert_eq!(both.servers[0].cpu, 105 * SECOND);
    assert_eq!(both.servers[0].pids, Some(14));
    let one = book(&mut ledger, vec![reading(1, "alice", 101)]);
    assert_eq!(one.servers[0].cpu, 106 * SECOND);
    book(&mut ledger, vec![]);
    let anew = book(&mut ledger, vec![reading(3, "alice", 1)]);
    assert_eq!(anew.servers[0].cpu, SECOND);
}

fn socket(directory: &tempfile::TempDir) -> (std::path::PathBuf, Metrics) {
    let path = directory.path().join("metrics.sock");
    let settings = Metrics {
        listen: Some(Listen::Unix(path.clone())),
        ..Metrics::default()
    };
    (path, settings)
}

#[tokio::test]
async fn metrics_are_read_over_a_socket_until_the_daemon_stops() {
    let directory = tempfile::tempdir().unwrap();
    let (path, settings) = socket(&directory);
    let mut exporter = Exporter::new(settings);
    let snapshot = book(&mut Ledger::default(), vec![reading(1, "alice", 10)]);
    exporter.publish(snapshot).unwrap();
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.to_lowercase()
            .contains(&format!("content-length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(body.contains("user=\"alice\""), "{body}");
    drop(exporter);
    assert!(!path.exists());
}

#[tokio::test]
async fn somebody_elses_file_in_the_sockets_place_is_left_there() {
    let directory = tempfile::tempdir().unwrap();
    let (path, settings) = socket(&directory);
    std::fs::write(&path, "theirs").unwrap();
    let mut exporter = Exporter::new(settings);
    let errors = exporter.publish(MetricsSnapshot::default()).unwrap_err();
    assert!(
        errors[0].to_string().contains("metrics.listen = "),
        "{errors:?}"
    );
    std::fs::remove_file(&path).unwrap();
    exporter.publish(MetricsSnapshot::default()).unwrap();
}

#[tokio::test]
async fn the_textfile_is_written_and_goes_with_the_setting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hubwarden.prom");
    let mut exporter = Exporter::new(Metrics {
        textfile: Some(path.clone()),
        ..Metrics::default()
    });
    exporter.publish(MetricsSnapshot::default()).unwrap();
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\nhubwarden_up 1\n"), "{text}");
    exporter.configure(Metrics::default());
    assert!(!path.exists());
}
