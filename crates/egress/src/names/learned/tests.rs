use super::*;
use crate::{Class, Mode};

fn class() -> ClassName {
    "research".parse().unwrap()
}

fn learn(learned: &mut Learned, ttl: u32, now: Instant) -> usize {
    let addresses = [("192.0.2.1".parse().unwrap(), ttl)];
    let lesson = Lesson {
        name: "a.example",
        addresses: &addresses,
        by: Sender::Number(1),
        now,
    };
    let news = learned.news(&[&class()], |_, _| false, &lesson);
    let count = news.iter().map(News::written).sum();
    learned.apply(news, &lesson);
    count
}

fn left(learned: &Learned, now: Instant) -> Option<u64> {
    let mut sets = [Set {
        name: "names4_research".into(),
        ..Set::default()
    }];
    learned.fill(&mut sets, now);
    sets[0]
        .elements
        .first()
        .map(|element| element.timeout_ms / 1000)
}

#[test]
fn an_address_lives_for_its_time_within_bounds() {
    let now = Instant::now();
    for (ttl, expected) in [(0, 60), (300, 300), (u32::MAX, 86_400)] {
        let mut learned = Learned::default();
        learn(&mut learned, ttl, now);
        assert_eq!(left(&learned, now), Some(expected));
        let end = now + Duration::from_secs(expected);
        assert_eq!(left(&learned, end), None);
    }
}

#[test]
fn a_policy_cuts_the_time_of_what_is_known() {
    let (mut learned, now) = (Learned::default(), Instant::now());
    learn(&mut learned, 86_400, now);
    let mut policy = Policy::standard(Mode::Enforce);
    let research = Class {
        names: vec!["*".parse().unwrap()],
        ..Class::standard()
    };
    policy.classes.insert(class(), research);
    for (most, expected) in [(7_200, 7_200), (300, 300), (1, 60)] {
        policy.names_ttl_max = Duration::from_secs(most);
        learned.settle(&policy, now);
        assert_eq!(left(&learned, now), Some(expected));
    }
}

#[test]
fn what_is_known_for_long_enough_is_not_written_again_and_never_shortened() {
    let (mut learned, now) = (Learned::default(), Instant::now());
    assert_eq!(learn(&mut learned, 300, now), 1);
    assert_eq!(learn(&mut learned, 300, now + Duration::from_secs(100)), 0);
    assert_eq!(learn(&mut learned, 300, now + Duration::from_secs(200)), 1);
    let later = now + Duration::from_secs(200);
    assert_eq!(left(&learned, later), Some(300));
    assert_eq!(learn(&mut learned, 1, later), 0);
    assert_eq!(left(&learned, later), Some(300));
}

#[test]
fn a_policy_that_does_not_allow_a_name_any_more_takes_its_addresses_along() {
    let (mut learned, now) = (Learned::default(), Instant::now());
    learn(&mut learned, 300, now);
    let mut policy = Policy::standard(Mode::Enforce);
    let mut with = |names: &str, deny: &[&str]| {
        let research = Class {
            names: vec![names.parse().unwrap()],
            deny_names: deny.iter().map(|name| name.parse().unwrap()).collect(),
            ..Class::standard()
        };
        policy.classes.insert(class(), research);
        let mut learned = learned.clone();
        learned.settle(&policy, now);
        left(&learned, now)
    };
    assert_eq!(with("*.example", &[]), Some(300));
    assert_eq!(with("*.example", &["a.example"]), None);
    assert_eq!(with("b.example", &[]), None);
}

#[test]
fn a_policy_that_closes_a_network_takes_the_addresses_in_it_along() {
    let (mut learned, now) = (Learned::default(), Instant::now());
    learn(&mut learned, 300, now);
    let mut policy = Policy::standard(Mode::Enforce);
    let mut research = Class {
        names: vec!["*".parse().unwrap()],
        ..Class::standard()
    };
    policy.private = vec!["192.0.2.0/24".parse().unwrap()];
    for (networks, expected) in [(vec!["192.0.2.1/32"], Some(300)), (vec![], None)] {
        research.networks = networks.iter().map(|net| net.parse().unwrap()).collect();
        policy.classes.insert(class(), research.clone());
        learned.settle(&policy, now);
        assert_eq!(left(&learned, now), expected);
    }
}
