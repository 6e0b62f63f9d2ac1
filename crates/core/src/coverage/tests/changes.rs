use super::made_up::Node;
use crate::coverage::*;
use quantities::Time;
use std::time::Duration;

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn kinds(rows: &[Uncovered]) -> Vec<&'static str> {
    rows.iter().map(|row| row.missing.kind()).collect()
}

#[test]
fn a_row_is_new_once_and_over_once_it_stays_away() {
    let node = Node::new().server("jhub.slice/a.service");
    let none = Node::new();
    let mut changes = Changes::default();
    assert_eq!(
        kinds(&changes.update(&node.survey(), at(0)).new),
        ["unit-name"]
    );
    for seconds in [60, 120] {
        assert_eq!(
            changes.update(&node.survey(), at(seconds)),
            Difference::default()
        );
    }
    // Away for a while, as a job that runs every five minutes, and back.
    assert_eq!(
        changes.update(&none.survey(), at(400)),
        Difference::default()
    );
    assert_eq!(
        changes.update(&node.survey(), at(460)),
        Difference::default()
    );
    assert_eq!(
        changes.update(&none.survey(), at(1000)),
        Difference::default()
    );
    let over = changes.update(&none.survey(), at(1060)).over;
    assert_eq!(kinds(&over), ["unit-name"]);
    assert_eq!(
        changes.update(&none.survey(), at(1120)),
        Difference::default()
    );
}

#[test]
fn what_may_pass_by_itself_is_new_only_once_it_lasts() {
    let node = Node::new().listed("alice", ListedAt::Unsaid);
    let mut changes = Changes::default();
    assert_eq!(changes.update(&node.survey(), at(0)), Difference::default());
    assert_eq!(
        changes.update(&Node::new().survey(), at(15)),
        Difference::default()
    );
    assert_eq!(
        changes.update(&node.survey(), at(60)),
        Difference::default()
    );
    assert_eq!(
        kinds(&changes.update(&node.survey(), at(120)).new),
        ["not-found"]
    );
}

#[test]
fn whom_the_hub_may_still_name_is_new_only_once_it_has_not() {
    let place = "jupyter.slice/jupyter-alice-lab.service";
    let why = "no template fits".to_owned();
    let unmapped = Node::new()
        .server(place)
        .known(place, Known::Unmapped { why });
    let new = |node: &Node, seconds: &[u64]| {
        let mut changes = Changes::default();
        let mut update = |seconds| changes.update(&node.survey(), at(seconds)).new.len();
        seconds.iter().map(|at| update(*at)).collect::<Vec<_>>()
    };
    assert_eq!(new(&unmapped, &[2, 15, 60]), [1, 0, 0]);
    let asked = unmapped.naming(|naming| naming.api = true);
    assert_eq!(new(&asked, &[2, 15, 60]), [0, 0, 1]);
}

#[test]
fn another_user_in_the_same_place_is_no_news_and_another_place_is() {
    let one = Node::new().server("jhub.slice/a.service");
    let two = Node::new()
        .server("jhub.slice/a.service")
        .with(|one| one.uid = 1002);
    let three = Node::new()
        .server("jhub.slice/a.service")
        .server("jhub.slice/b.service");
    let mut changes = Changes::default();
    changes.update(&one.survey(), at(0));
    assert_eq!(changes.update(&two.survey(), at(60)), Difference::default());
    assert_eq!(changes.update(&three.survey(), at(120)).new.len(), 1);
}

#[test]
fn that_not_all_had_room_is_said_once() {
    let mut node = Node::new();
    node.facts.unseen = 7;
    let mut changes = Changes::default();
    assert_eq!(changes.update(&node.survey(), at(0)).beyond, Some((0, 7)));
    assert_eq!(changes.update(&node.survey(), at(60)).beyond, None);
}
