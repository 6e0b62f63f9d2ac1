//! What others see of a daemon's work: metrics, and traces for replay.

use super::*;
use crate::config::Size;
use crate::trace::Reader;

impl Node {
    fn textfile(&self) -> PathBuf {
        self.state.path().join("hubwarden.prom")
    }
}

/// The file once it says something. A thread writes it, and what is handed over while that is busy
/// waits for the next tick; so metrics are shown again until then, with no time going by.
async fn text_with(node: &Node, daemon: &mut Running, line: &str) -> String {
    for _ in 0..3000 {
        let text = std::fs::read_to_string(node.textfile()).unwrap_or_default();
        if text.contains(line) {
            return text;
        }
        daemon.shell.show_metrics(Duration::from_millis(3));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never had `{line}`", node.textfile().display());
}

#[test]
fn metrics_follow_a_server_from_its_verdict_to_its_end() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.metrics.textfile = Some(node.textfile());
        node.spawn("alice");
        std::fs::write(node.directory("alice").join("pids.current"), "12\n").unwrap();
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        node.tick(&mut daemon, 1).await;
        let cpu = "hubwarden_server_cpu_seconds_total{user=\"alice\",server=\"\"} 150.0\n";
        let text = text_with(&node, &mut daemon, cpu).await;
        for line in [
            "hubwarden_server_stage{user=\"alice\",server=\"\",stage=\"throttled\"} 1\n",
            "hubwarden_server_pids{user=\"alice\",server=\"\"} 12\n",
            "hubwarden_server_cpu_seconds_total{user=\"alice\",server=\"\"} 150.0\n",
            "hubwarden_server_limit_cores{user=\"alice\",server=\"\"} 0.25\n",
            "hubwarden_server_verdicts_total{user=\"alice\",server=\"\",stage=\"throttled\"} 1\n",
            "hubwarden_enforcing 1\n",
            "hubwarden_egress_loaded 1\n",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        let nobody = "hubwarden_servers{stage=\"throttled\"} 0\n";
        let text = text_with(&node, &mut daemon, nobody).await;
        assert!(!text.contains("alice"), "{text}");
    });
}

#[test]
fn what_a_user_runs_outside_is_in_the_server_s_metrics_and_the_account_there_once() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.metrics.textfile = Some(node.textfile());
        node.spawn("alice");
        node.outside(0.0);
        let slice = node.root.path().join("user.slice/user-1000.slice");
        for (directory, pids, memory) in [(node.directory("alice"), 12, 4096), (slice, 30, 8192)] {
            std::fs::write(directory.join("pids.current"), format!("{pids}\n")).unwrap();
            std::fs::write(directory.join("memory.current"), format!("{memory}\n")).unwrap();
        }
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        for second in 1..=100u32 {
            node.set_usage("alice", f64::from(second));
            node.outside(f64::from(second));
            node.tick(&mut daemon, 1).await;
        }
        node.tick(&mut daemon, 1).await;
        let cpu = "hubwarden_server_cpu_seconds_total{user=\"alice\",server=\"\"} 200.0\n";
        let text = text_with(&node, &mut daemon, cpu).await;
        for line in [
            "hubwarden_server_pids{user=\"alice\",server=\"\"} 42\n",
            "hubwarden_server_memory_bytes{user=\"alice\",server=\"\"} 12288\n",
            // The server's quota and the slice's together.
            "hubwarden_server_limit_cores{user=\"alice\",server=\"\"} 0.25\n",
            "hubwarden_server_verdicts_total{user=\"alice\",server=\"\",stage=\"throttled\"} 1\n",
            "hubwarden_servers{stage=\"throttled\"} 1\n",
            "hubwarden_servers{stage=\"free\"} 0\n",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        // What is left of the one account, a second's baseline after its end.
        let credits = "hubwarden_server_credits_core_seconds{user=\"alice\",server=\"\"} ";
        let shown = text.lines().find_map(|line| line.strip_prefix(credits));
        let left: f64 = shown.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
        assert!(left <= 0.25, "{left}");
    });
}

#[test]
fn a_trace_of_an_enforced_day_says_who_was_throttled_and_names_nobody() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.trace.enabled = true;
        node.config.trace.max_size = Size(1 << 20);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        for second in 1..=100u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        // Switched off it goes on recording: what is used is used.
        daemon.shell.off = true;
        node.set_usage("alice", 160.0);
        node.tick(&mut daemon, 1).await;
        let traces = crate::trace::directory(node.state.path());
        let file = std::fs::read_dir(traces).unwrap().next().unwrap().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alice"));
        let mut reader = Reader::open(&file.path()).unwrap();
        let policy = crate::daemon::policy(&node.config.limits);
        let outcome = crate::replay::recorded(&mut reader, |_| policy.clone(), None).unwrap();
        assert_eq!(outcome.throttled_while_recorded, 1);
        // The first sample, at 1.5 core-seconds, only sets the starting point.
        assert!(
            (outcome.asked_core_seconds - 158.5).abs() < 0.01,
            "{outcome:?}"
        );
        // 100 core-seconds at 1.5 − 0.25 cores last 80 s, as they did.
        let at = outcome.throttled[0].at.0.as_secs();
        assert!((80..=82).contains(&at), "{at}");
    });
}
