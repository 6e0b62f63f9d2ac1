//! Ending a server through the hub, from a made-up hub on loopback, and without it.

use super::*;
use crate::config::{ApiUrl, StopBy};
use crate::http::fake::Service;

struct Hub {
    service: Service,
    _token: tempfile::NamedTempFile,
}

impl Hub {
    fn deletions(&self) -> Vec<String> {
        let asked = self.service.asked().into_iter();
        let asked = asked.map(|asked| asked.target);
        asked.filter(|asked| asked.starts_with("DELETE")).collect()
    }
}

/// A node where alice's server is stopped after a minute, and a hub that answers so.
fn node(status: u16, said: &'static str) -> (Node, Hub) {
    let node = Node::new(Mode::Enforce);
    node_with(node, move || (status, said.to_owned()))
}

fn node_with(mut node: Node, answer: impl Fn() -> (u16, String) + Send + 'static) -> (Node, Hub) {
    node.config.limits.time.wall = Some(Duration::from_secs(60));
    node.config.limits.time.then = Stage::Stopped;
    node.spawn("alice");
    let service = Service::jupyterhub(move |_| answer());
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret").unwrap();
    node.config.hub.token_file = token.path().to_owned();
    node.config.hub.api_url = Some(ApiUrl {
        endpoint: service.endpoint().clone(),
        prefix: "/hub/api".into(),
    });
    node.config.hub.stop_by = StopBy::Hub;
    let hub = Hub {
        service,
        _token: token,
    };
    (node, hub)
}

/// Ticks on; the hub gets real time to answer.
async fn seconds(node: &mut Node, daemon: &mut Running, seconds: u32) {
    for _ in 0..seconds {
        node.tick(daemon, 1).await;
    }
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        daemon.rescan();
        daemon.quiet().await;
    }
}

const DELETE: &str = "DELETE /hub/api/users/alice/server";

#[test]
fn the_hub_is_asked_once_and_systemd_is_not() {
    on_a_node(async || {
        let node = Node::new(Mode::Enforce);
        let server = node.directory("alice");
        // As a hub does: it answers when the server is gone, and is not the first to tell.
        let (mut node, hub) = node_with(node, move || {
            let _ = std::fs::remove_dir_all(&server);
            std::thread::sleep(Duration::from_millis(30));
            (204, String::new())
        });
        let (mut daemon, journal) = node.start();
        seconds(&mut node, &mut daemon, 62).await;
        assert_eq!(hub.deletions(), [DELETE]);
        for _ in 0..20 {
            seconds(&mut node, &mut daemon, 5).await;
        }
        assert_eq!(hub.deletions(), [DELETE]);
        assert!(node.systemd.0.borrow().stopped.is_empty());
        let told = node.read(&journal);
        let line = "alice's server is stopped: it ran for the 60 s";
        assert_eq!(told.matches(line).count(), 1, "{told}");
        assert!(!told.contains("without the hub"), "{told}");
    });
}

#[test]
fn a_hub_that_refuses_is_told_of_once_and_done_without() {
    on_a_node(async || {
        let (mut node, hub) = node(403, "lacks delete:servers");
        let (mut daemon, journal) = node.start();
        seconds(&mut node, &mut daemon, 62).await;
        assert_eq!(hub.deletions(), [DELETE]);
        assert_eq!(node.systemd.0.borrow().stopped, ["jupyter-alice.service"]);
        let told = node.read(&journal);
        let line = "The hub did not stop alice's server, so hubwarden ends it without the hub: ";
        assert_eq!(told.matches(line).count(), 1, "{told}");
        assert!(told.contains("status 403 (lacks delete:servers)"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    });
}

#[test]
fn a_hub_that_does_not_get_it_done_has_a_minute() {
    on_a_node(async || {
        let (mut node, hub) = node(202, "");
        let (mut daemon, journal) = node.start();
        seconds(&mut node, &mut daemon, 62).await;
        assert_eq!(hub.deletions(), [DELETE]);
        seconds(&mut node, &mut daemon, 50).await;
        assert!(node.systemd.0.borrow().stopped.is_empty());
        seconds(&mut node, &mut daemon, 20).await;
        assert_eq!(node.systemd.0.borrow().stopped, ["jupyter-alice.service"]);
        assert_eq!(hub.deletions(), [DELETE]);
        let told = node.read(&journal);
        assert!(
            told.contains("without the hub: it was asked 60 s ago"),
            "{told}"
        );
    });
}

#[test]
fn without_the_switch_the_hub_is_not_asked() {
    on_a_node(async || {
        let (mut node, hub) = node(204, "");
        node.config.hub.stop_by = StopBy::Systemd;
        let (mut daemon, _journal) = node.start();
        seconds(&mut node, &mut daemon, 62).await;
        assert_eq!(hub.deletions(), [""; 0]);
        assert_eq!(node.systemd.0.borrow().stopped, ["jupyter-alice.service"]);
    });
}

#[test]
fn observing_stops_nothing_through_the_hub_either() {
    on_a_node(async || {
        let (mut node, hub) = node(204, "");
        node.config.mode = Mode::Observe;
        let (mut daemon, _journal) = node.start();
        seconds(&mut node, &mut daemon, 70).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Stopped);
        assert_eq!(hub.deletions(), [""; 0]);
        assert!(node.systemd.0.borrow().stopped.is_empty());
    });
}
