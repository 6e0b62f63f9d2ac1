//! Others at the packet rules.

use super::*;

#[test]
fn what_another_does_to_the_rules_is_mended_before_the_next_tick_and_told_with_a_name() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (daemon, journal) = node.start();
        let firewall = node.firewall.clone();
        let alter = || {
            let mut rules = firewall.rules();
            rules.loaded = false;
            rules.altered.push(Difference {
                object: "table hubwarden".into(),
                kind: crate::egress::DifferenceKind::Missing,
            });
        };
        let by = |pid, name: &str| {
            Intrusion::By(crate::egress::Writer {
                pid,
                name: name.into(),
            })
        };
        let (tell, mut more) = mpsc::channel(4);
        alter();
        tell.try_send(by(12, "firewalld")).unwrap();
        daemon.intruded(by(11, "nft"), &mut more);
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(
            told.contains("nft (pid 11) and firewalld (pid 12) changed the packet rules"),
            "{told}"
        );

        // Overtaken by a repair, or in doubt: looked at, and nothing is told.
        daemon.intruded(by(11, "nft"), &mut more);
        daemon.intruded(Intrusion::Unknown, &mut more);
        assert_eq!(node.read(&journal), "");

        daemon.switch_off("an admin").await.unwrap();
        alter();
        daemon.intruded(by(11, "nft"), &mut more);
        assert!(!node.firewall.rules().loaded, "off is off");
    });
}
