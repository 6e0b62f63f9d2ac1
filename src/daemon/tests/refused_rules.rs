//! Packet rules that the kernel does not take: what is left out, and that it is said.

use super::fakes::Refuses;
use super::*;
use crate::control::Command;
use tokio::sync::oneshot;

async fn reload(node: &mut Node, daemon: &mut Running, text: &str) -> Result<String, String> {
    std::fs::write(node.state.path().join("config.toml"), text).unwrap();
    let (reply, answer) = oneshot::channel();
    daemon.command(Command::Reload("root".into(), reply));
    daemon.quiet().await;
    answer.await.unwrap()
}

#[test]
fn reload_on_and_status_say_that_no_rules_could_be_loaded() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert!(daemon.shell.status().egress_loaded);
        node.firewall.rules().refuses = Refuses::All;
        let said = reload(
            &mut node,
            &mut daemon,
            "mode = \"enforce\"\ntick = \"7s\"\n",
        )
        .await;
        let said = said.unwrap_err();
        assert!(
            said.contains("A new configuration is in force")
                && said.contains("The packet rules are not in force."),
            "{said}"
        );
        assert!(!daemon.shell.status().egress_loaded);
        daemon.switch_off("root").await.unwrap();
        let said = daemon.switch_on("root").await.unwrap_err();
        assert!(
            said.contains("The packet rules are not in force."),
            "{said}"
        );

        node.firewall.rules().refuses = Refuses::Nothing;
        node.tick(&mut daemon, 1).await;
        assert!(daemon.shell.status().egress_loaded);
        let said = reload(&mut node, &mut daemon, "mode = \"enforce\"\n").await;
        assert!(said.is_ok(), "{said:?}");
        let told = node.read(&journal);
        let failed =
            "Loading the packet rules failed and is tried again: kernel refused to add an element";
        assert!(told.contains(failed), "{told}");
    });
}

#[test]
fn what_the_kernel_does_not_take_drops_out_and_the_rest_is_in_force() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        node.firewall.rules().refuses = Refuses::Containers;
        let mut desired = daemon.shell.desired_network();
        let server = ::egress::ServerPort {
            cgroup: CgroupId(77),
            number: 77,
            class: "standard".parse().unwrap(),
            addresses: std::collections::BTreeSet::new(),
        };
        desired.bridges.servers.insert(5, server);
        desired.bridges.guarded.insert("br4".to_owned());
        let troubles = daemon.shell.network.rules.load(desired);
        let told: Vec<_> = troubles.iter().map(|trouble| trouble.what).collect();
        let without = "Loading the packet rules without users outside their servers";
        assert_eq!(told, ["Loading the packet rules", without]);
        let rules = node.firewall.rules();
        assert!(rules.loaded && rules.bridges.servers.is_empty());
        assert_eq!(
            rules.bridges.guarded,
            ["br4".to_owned()].into(),
            "what is not known is closed"
        );
        assert!(!rules.admitted.is_empty());
    });
}

#[test]
fn rules_that_a_holder_has_are_changed_once_it_answers() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.firewall.rules().refuses = Refuses::All;
        let (mut daemon, _) = node.start();
        node.tick(&mut daemon, 1).await;
        assert!(!daemon.shell.status().egress_loaded);
        node.firewall.rules().holder_answers = true;
        node.tick(&mut daemon, 1).await;
        assert!(daemon.shell.status().egress_loaded);
    });
}

#[test]
fn that_nothing_holds_the_rules_is_said_until_something_does() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let lack = "A program that flushes all packet rules opens everything.".to_owned();
        node.firewall.rules().lack = Some(lack.clone());
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 3).await;
        let shown = |daemon: &Running| {
            let lacks = daemon.shell.status().lacks;
            lacks.iter().any(|(_, why)| *why == lack)
        };
        assert!(shown(&daemon));
        node.firewall.rules().holder_answers = true;
        node.tick(&mut daemon, 1).await;
        assert!(!shown(&daemon));
        assert_eq!(node.read(&journal).matches(&lack).count(), 1);
    });
}
