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
            let name = name.into();
            let writer = crate::egress::Writer { pid, name };
            Intrusion::By(writer, Damage::of_the_table())
        };
        let (tell, mut more) = mpsc::channel(4);
        alter();
        tell.try_send(by(12, "firewalld")).unwrap();
        daemon.intruded(by(11, "nft"), &mut more);
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(
            told.contains(
                "nft (pid 11) and firewalld (pid 12) changed the packet rules of hubwarden, and \
                 they are put back: the table was deleted."
            ),
            "{told}"
        );

        // Overtaken by a repair, or in doubt: looked at, and nothing is told.
        daemon.intruded(by(11, "nft"), &mut more);
        daemon.intruded(Intrusion::Unknown, &mut more);
        assert_eq!(node.read(&journal), "");

        // Seen by comparing alone, once the loop has a moment.
        compared(&daemon).await;
        alter();
        daemon.intruded(Intrusion::Unknown, &mut more);
        assert!(!node.firewall.rules().loaded);
        compared(&daemon).await;
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(told.contains("Somebody changed"), "{told}");
        assert!(told.contains("table hubwarden is gone"), "{told}");

        daemon.switch_off("an admin").await.unwrap();
        alter();
        daemon.intruded(by(11, "nft"), &mut more);
        assert!(!node.firewall.rules().loaded, "off is off");
    });
}
