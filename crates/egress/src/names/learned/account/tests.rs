use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const SHARE: usize = NAMES_SHARE as usize;

fn address(n: usize) -> IpAddr {
    Ipv4Addr::from(u32::try_from(n).unwrap()).into()
}

fn number(n: usize) -> Sender {
    Sender::Number(u32::try_from(n).unwrap())
}

/// Has a sender ask for these, each good for an hour; by whom how many had to go.
fn ask(
    account: &mut Account,
    sender: Sender,
    asked: impl Iterator<Item = usize>,
    now: Instant,
) -> BTreeMap<Sender, usize> {
    let asked: Vec<IpAddr> = asked.map(address).collect();
    account.make_ready(sender, now);
    let plan = account.plan(sender, asked.iter().copied(), now);
    for address in asked {
        account.learn(address, now + Duration::from_secs(3_600), "a.example");
    }
    let evicted = plan.evicted.clone();
    account.apply(plan, sender);
    sound(account);
    evicted
}

fn has(account: &Account, n: usize) -> bool {
    account.known.contains_key(&address(n))
}

/// What is kept twice agrees, and is within its bounds.
fn sound(account: &Account) {
    let claims: usize = account.of.values().map(BTreeMap::len).sum();
    assert_eq!(claims, account.claims);
    assert!(account.known.len() <= NAMES as usize && claims <= CLAIMS);
}

/// The whole of it, for tests that are not too large.
fn agrees(account: &Account) {
    for (sender, of) in &account.of {
        for (order, address) in of {
            assert_eq!(account.known[address].by.get(sender), Some(order));
        }
    }
    let by: usize = account.known.values().map(|known| known.by.len()).sum();
    assert_eq!(by, account.claims);
    assert!(account.known.values().all(|known| !known.by.is_empty()));
}

#[test]
fn who_asks_for_too_much_loses_the_oldest_of_its_own_and_nobody_else_s() {
    let (mut account, now) = (Account::default(), Instant::now());
    ask(&mut account, number(2), 0..3, now);
    // Asked for by both.
    ask(&mut account, number(1), 2..5, now);
    let mut evicted = 0;
    for at in 0..300 {
        let begin = 1_000 + at * 250;
        let by = ask(&mut account, number(1), begin..begin + 250, now);
        assert!(by.keys().all(|sender| *sender == number(1)), "{by:?}");
        evicted += by.values().sum::<usize>();
    }
    agrees(&account);
    assert_eq!(account.count(number(1)), SHARE);
    assert_eq!(evicted, 3 + 300 * 250 - SHARE);
    assert!(has(&account, 0) && has(&account, 2), "another's stay");
    assert!(!has(&account, 3) && !has(&account, 1_000), "its own oldest");
    assert!(has(&account, 1_000 + 75_000 - 1), "its newest");
}

#[test]
fn what_is_asked_for_again_is_new_again() {
    let (mut account, now) = (Account::default(), Instant::now());
    ask(&mut account, number(1), 0..1, now);
    for at in 0..20 {
        ask(
            &mut account,
            number(1),
            1_000 + at * 200..1_200 + at * 200,
            now,
        );
        ask(&mut account, number(1), 0..1, now);
    }
    assert!(has(&account, 0), "what it uses stays");
}

#[test]
fn a_few_dozens_who_ask_for_all_they_can_take_nothing_from_others() {
    let (mut account, now) = (Account::default(), Instant::now());
    for user in 0..1_000 {
        ask(&mut account, number(user), user..user + 2, now);
    }
    for attacker in 2_000..2_060 {
        for at in 0..6 {
            let begin = attacker * 10_000 + at * 250;
            ask(&mut account, number(attacker), begin..begin + 250, now);
        }
    }
    for user in 0..1_001 {
        assert!(has(&account, user), "{user}");
    }
}

#[test]
fn when_all_together_have_too_much_whoever_has_the_most_loses() {
    let (mut account, now) = (Account::default(), Instant::now());
    let few = 60;
    ask(&mut account, number(1), 0..few, now);
    let mut losers = BTreeSet::new();
    for attacker in 1_000..1_200 {
        for at in 0..2 {
            let begin = attacker * 10_000 + at * 250;
            let evicted = ask(&mut account, number(attacker), begin..begin + 250, now);
            losers.extend(evicted.into_keys());
        }
    }
    agrees(&account);
    assert_eq!(account.known.len(), NAMES as usize);
    assert!(!losers.is_empty() && !losers.contains(&number(1)));
    assert!(
        (0..few).all(|n| has(&account, n)),
        "who has little keeps it"
    );
    // Who comes now has room.
    ask(&mut account, number(2), 100..200, now);
    assert!((100..200).all(|n| has(&account, n)));
}

#[test]
fn what_those_brought_in_who_are_gone_goes_first() {
    let (mut account, now) = (Account::default(), Instant::now());
    let last = NAMES as usize / 250 / 4 + 1;
    for sender in 1..=last {
        for at in 0..4 {
            let begin = (sender * 4 + at) * 1_000;
            ask(&mut account, number(sender), begin..begin + 250, now);
        }
    }
    // One of two that asked for it stays.
    ask(&mut account, number(1), 8_000..8_001, now);
    account.keep_senders(|number| number != 2 && number != 3);
    agrees(&account);
    let evicted = ask(&mut account, number(9_999), 1 << 30..(1 << 30) + 250, now);
    assert!(
        evicted.keys().all(|sender| *sender == Sender::Gone),
        "{evicted:?}"
    );
    assert!(has(&account, 8_000), "another asked for it");
}

#[test]
fn what_has_ended_takes_no_share() {
    let (mut account, now) = (Account::default(), Instant::now());
    for at in 0..4 {
        ask(&mut account, number(1), at * 250..at * 250 + 250, now);
    }
    let later = now + Duration::from_secs(3_700);
    let evicted = ask(&mut account, number(1), 5_000..5_250, later);
    assert!(evicted.is_empty(), "{evicted:?}");
    assert_eq!(account.known.len(), 250);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn accounts_agree_in_any_order_of_questions(
        steps in prop::collection::vec((0usize..6, 0usize..40, 1usize..256, 0u64..4), 1..60),
    ) {
        let (mut account, mut now) = (Account::default(), Instant::now());
        for (what, begin, count, later) in steps {
            // Mostly at once, so that there is much.
            now += Duration::from_secs(1_500) * u32::from(later == 3);
            match what {
                0 => account.retain(|address, _| address != self::address(begin * 100)),
                1 => account.keep_senders(|number| number != 2),
                sender => {
                    let begin = begin * 100;
                    let of_others = account.of.iter().filter(|(of, _)| **of != number(sender));
                    let before: BTreeSet<IpAddr> =
                        of_others.flat_map(|(_, of)| of.values().copied()).collect();
                    let good = |address: &IpAddr| account.known[address].until > now;
                    let before: Vec<IpAddr> = before.into_iter().filter(good).collect();
                    let evicted = ask(&mut account, number(sender), begin..begin + count, now);
                    prop_assert!(evicted.keys().all(|loser| *loser == number(sender)));
                    // Others' are there, as long as they are good.
                    let gone = |address: &&IpAddr| !account.known.contains_key(address);
                    prop_assert!(!before.iter().any(|address| gone(&address)));
                    prop_assert!((begin..begin + count).all(|n| has(&account, n)));
                    prop_assert!(account.count(number(sender)) <= SHARE);
                }
            }
            agrees(&account);
        }
    }
}
