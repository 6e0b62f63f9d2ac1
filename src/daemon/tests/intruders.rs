//! Others at the packet rules.

use super::*;
use ::egress::ForeignChange;
use ::egress::ForeignWrite;

#[test]
fn what_another_does_to_the_rules_is_mended_before_the_next_tick_and_told_with_a_name() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, journal) = node.start();
        let firewall = node.firewall.clone();
        let alter = || {
            let mut rules = firewall.rules();
            rules.loaded = false;
            rules.altered.push(Difference {
                object: "table hubwarden".into(),
                kind: ::egress::DifferenceKind::Missing,
            });
        };
        let by = |pid, name: &str| {
            let name = name.into();
            let writer = ::egress::Writer { pid, name };
            ForeignWrite::By(writer, ForeignChange::of_the_whole_table())
        };
        let mut rules = node.firewall.clone();
        let mut repair = |intrusion| Repair::of([intrusion], &mut rules);
        let (tell, mut more) = mpsc::channel(4);
        alter();
        let first = repair(by(11, "nft"));
        assert!(node.firewall.rules().loaded);
        alter();
        tell.try_send(repair(by(12, "firewalld"))).unwrap();
        daemon.on_foreign_write(first, &mut more);
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
        daemon.on_foreign_write(repair(by(11, "nft")), &mut more);
        daemon.on_foreign_write(repair(ForeignWrite::Unknown), &mut more);
        assert_eq!(node.read(&journal), "");

        // Seen by comparing alone, once the loop has a moment.
        compared(&mut daemon).await;
        alter();
        daemon.on_foreign_write(repair(ForeignWrite::Unknown), &mut more);
        assert!(!node.firewall.rules().loaded);
        compared(&mut daemon).await;
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(told.contains("Somebody changed"), "{told}");
        assert!(told.contains("table hubwarden is gone"), "{told}");

        // What could not be put back is loaded anew.
        let failed = |pid, name: &str| {
            let attempt = "repair the egress table";
            let name = name.into();
            Repair {
                by: BTreeSet::from([::egress::Writer { pid, name }]),
                change: ForeignChange::of_the_whole_table(),
                outcome: Err(nft::Error::NoAnswer { attempt }.into()),
            }
        };
        alter();
        daemon.on_foreign_write(failed(13, "iptables"), &mut more);
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(told.contains("iptables (pid 13) changed"), "{told}");

        daemon.switch_off("an admin").await.unwrap();
        alter();
        daemon.on_foreign_write(failed(11, "nft"), &mut more);
        assert!(!node.firewall.rules().loaded, "off is off");
    });
}
