//! Denied names that servers ask for.

use super::*;
use ::egress::names::{Asked, DeniedBy};

#[test]
fn a_denied_name_is_told_once_and_whose_server_asked_for_it() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let number = {
            let shell = &daemon.shell;
            let mut numbers = shell.node.numbers().iter();
            numbers.next().unwrap().0
        };
        let asked = |name: &str, by: DeniedBy, refused: bool| Asked {
            number,
            name: name.to_owned(),
            by,
            refused,
        };
        let list = || DeniedBy::List("pools".parse().unwrap());
        for _ in 0..3 {
            daemon.asked(&asked("pool.example", list(), true), node.clock);
        }
        let class = DeniedBy::Class("standard".parse().unwrap());
        daemon.asked(&asked("other.example", class, false), node.clock);
        let stranger = Asked {
            number: number + 1,
            ..asked("stranger.example", list(), true)
        };
        daemon.asked(&stranger, node.clock);
        let told = node.read(&journal);
        let says = "alice's server asked for pool.example and was told that there is no such name: \
                    deny list pools has it.";
        assert_eq!(told.matches(says).count(), 1, "{told}");
        assert!(told.contains("asked for other.example: egress class standard denies it."));
        assert!(!told.contains("stranger"), "{told}");
        node.clock.0 += Duration::from_secs(3601);
        daemon.asked(&asked("pool.example", list(), true), node.clock);
        assert!(node.read(&journal).contains(says));
        // A flood of names is told of up to a bound.
        for n in 0..500 {
            daemon.asked(&asked(&format!("n{n}.example"), list(), true), node.clock);
        }
        assert!(node.read(&journal).matches("asked for").count() <= 64);
    });
}
