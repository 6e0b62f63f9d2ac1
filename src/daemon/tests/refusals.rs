//! What is told of refused packets, and what they add up to.

use super::uid_egress::{judged, with_alice};
use super::*;
use ::egress::{Refused, RefusedBy};

fn refusal(number: Option<u32>, port: u16) -> Refusal {
    Refusal {
        number,
        by: RefusedBy::Class("standard".parse().unwrap()),
        uid: Some(1000),
        protocol: 6,
        destination: "192.0.2.7".parse().unwrap(),
        port: Some(port),
    }
}

fn after(seconds: u64) -> Time {
    Time(Duration::from_secs(1000 + seconds))
}

fn refused(number: Option<u32>, packets: u64) -> Refused {
    Refused {
        number,
        packets,
        ..Refused::default()
    }
}

/// So many packets were refused, and a tick comes.
fn refuse(node: &Node, daemon: &mut Running, number: Option<u32>, packets: u64, at: Time) {
    node.firewall.rules().refused = vec![refused(number, packets)];
    let shell = &mut daemon.shell;
    shell.read_counters(at);
    shell.count_refused(at);
}

#[test]
fn packets_without_a_line_are_told_as_a_number_by_the_next_line_an_hour_later_or_at_the_end() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, entries) = node.start();
        daemon.quiet().await;
        node.tick(&mut daemon, 1).await;
        let number = {
            let shell = &daemon.shell;
            shell.node.numbers().iter().next().map(|(number, _)| number)
        };
        node.read(&entries);
        daemon.refused(&refusal(number, 22), after(1));
        refuse(&node, &mut daemon, number, 38, after(5));
        daemon.refused(&refusal(number, 22), after(6));
        daemon.refused(&refusal(number, 23), after(7));
        let told = node.read(&entries);
        assert_eq!(told.matches("port 22").count(), 1, "{told}");
        assert!(
            told.ends_with("allow it. 36 more packets before it have no line of their own."),
            "{told}"
        );
        refuse(&node, &mut daemon, number, 6, after(10));
        refuse(&node, &mut daemon, number, 1, after(3609));
        assert_eq!(node.read(&entries), "");
        refuse(&node, &mut daemon, None, 2, after(3610));
        assert_eq!(
            node.read(&entries),
            "7 packets of alice's server were refused without a line for each."
        );
        refuse(&node, &mut daemon, None, 1, after(3701));
        daemon.refused(&refusal(None, 80), after(3702));
        let told = node.read(&entries);
        assert!(
            told.ends_with("2 more packets before it have no line of their own."),
            "{told}"
        );

        node.firewall.rules().refused = vec![refused(number, 4)];
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        let told = node.read(&entries);
        let (packets, gone) = told.split_once('\n').unwrap();
        assert_eq!(
            packets,
            "4 packets of alice's server were refused without a line for each."
        );
        assert!(gone.contains("stopped"), "{told}");
    });
}

#[test]
fn what_a_user_is_refused_outside_the_server_is_counted_for_itself_and_told_when_that_ends() {
    on_a_node(async || {
        let (mut node, mut daemon, journal) = with_alice(Mode::Enforce).await;
        let number = Some(judged(&node)[0].number);
        daemon.refused(&refusal(number, 22), after(1));
        node.read(&journal);
        refuse(&node, &mut daemon, number, 10, after(5));
        daemon.refused(&refusal(number, 23), after(6));
        let told = node.read(&journal);
        assert!(
            told.starts_with("what alice runs outside the server, as uid 1000, was refused")
                && told.ends_with("8 more packets before it have no line of their own."),
            "{told}"
        );
        refuse(&node, &mut daemon, number, 5, after(10));
        node.firewall.rules().refused = vec![refused(number, 3)];
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node), []);
        let outside = "packets of what alice runs outside the server, as uid 1000, were refused";
        let told = node.read(&journal);
        assert!(
            told.contains(&format!("8 {outside} without a line for each.")),
            "{told}"
        );
    });
}

#[test]
fn a_daemon_that_ends_tells_what_no_line_stood_for() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        daemon.quiet().await;
        node.tick(&mut daemon, 1).await;
        let number = daemon.shell.node.numbers().iter().next().map(|one| one.0);
        node.read(&journal);
        refuse(&node, &mut daemon, number, 5, after(5));
        node.firewall.rules().refused = vec![refused(number, 2)];
        daemon.shell.log_all_unlogged(after(6));
        assert_eq!(
            node.read(&journal),
            "7 packets of alice's server would have been refused without a line for each."
        );
    });
}

#[test]
fn who_runs_into_a_share_is_logged_once_a_day_and_shown_without_a_name() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, entries) = node.start();
        daemon.quiet().await;
        node.tick(&mut daemon, 1).await;
        let number = {
            let shell = &daemon.shell;
            shell.node.numbers().iter().next().map(|(number, _)| number)
        };
        node.read(&entries);
        let over = Refused {
            not_noted: 40,
            ..refused(number, 0)
        };
        let mut told = Vec::new();
        for hour in [0, 1, 23, 25] {
            node.firewall.rules().refused = vec![over];
            let shell = &mut daemon.shell;
            shell.count_refused(after(hour * 3600));
            shell.watch_shares(after(hour * 3600));
            shell.network.counters.refused.clear();
            told.push(node.read(&entries));
        }
        let said = "alice's server begins connections faster than hubwarden notes them for the \
                    detection of scans (768 at once, 10 a second): 40 were not noted. They are not \
                    refused for it.";
        assert_eq!(told, [said, "", "", said]);
        let lack = daemon.shell.shares_lack(after(26 * 3600)).unwrap();
        assert!(
            lack.starts_with("within a day 1 sender ran into its share of attempts;"),
            "{lack}"
        );
        assert!(!lack.contains("alice"));
        assert_eq!(daemon.shell.shares_lack(after(50 * 3600)), None);
    });
}
