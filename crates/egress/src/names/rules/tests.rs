use super::*;

#[test]
fn the_known_resolvers_over_https_are_names_and_single_addresses() {
    let (entries, problems) = parse(include_bytes!("../doh.txt"));
    assert_eq!(problems, []);
    assert!(entries.names.len() > 20 && entries.networks.len() > 20);
    // What was told of as single addresses: neighbours are joined.
    let few = |net: &ipnet::IpNet| net.max_prefix_len() - net.prefix_len() <= 2;
    assert!(entries.networks.iter().all(few), "addresses, not networks");
}

#[test]
fn only_who_has_names_is_read_strictly_and_nobody_while_observing() {
    let mut policy = Policy::standard(Mode::Enforce);
    let standard = Class::standard();
    assert_eq!(Reading::of(&policy, &standard), None);
    assert!(!uses(&policy) && chains(&policy).is_empty() && sets(&policy).is_empty());
    let named = Class {
        names: vec!["pypi.org".parse().unwrap()],
        ..Class::standard()
    };
    assert_eq!(Reading::of(&policy, &named), Some(Reading::Strictly));
    policy.mode = Mode::Observe;
    assert_eq!(Reading::of(&policy, &named), Some(Reading::Loosely));
    let denying = Class {
        deny_names: vec!["pypi.org".parse().unwrap()],
        ..Class::standard()
    };
    assert_eq!(Reading::of(&policy, &denying), Some(Reading::Loosely));
    let mute = Class {
        dns: false,
        ..named
    };
    assert_eq!(Reading::of(&policy, &mute), None);
}
