use proptest::prelude::*;

use super::*;
use crate::names::{
    answer::tests::{A, AAAA, message},
    wire::tests::{asking, packet},
};

fn asked(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = message(0x0100, name, &[]);
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    let at = bytes.len() - 4;
    bytes[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    bytes
}

fn question(port: u16, message: &[u8]) -> Question {
    let segment = Segment::read_question(&asking(false, None, port, message)).unwrap();
    Question::of(&segment, message, false).unwrap()
}

/// The question of an answer that goes to this port.
fn answered(port: u16, mut message: Vec<u8>) -> Question {
    message[2] |= 0x80;
    let mut bytes = packet(false, None, &message);
    bytes[22..24].copy_from_slice(&port.to_be_bytes());
    let segment = Segment::read(&bytes).unwrap();
    Question::of(&segment, &message, true).unwrap()
}

const ALICE: Sender = Sender::Number(1);
const BOB: Sender = Sender::Number(2);

#[test]
fn an_answer_counts_once_and_only_for_what_was_asked() {
    let now = Instant::now();
    let asks = asked(7, "a.example", A);
    let wrong = [
        answered(4097, asks.clone()),
        answered(4096, asked(8, "a.example", A)),
        answered(4096, asked(7, "b.example", A)),
        answered(4096, asked(7, "a.example", AAAA)),
    ];
    let mut questions = Questions::default();
    questions.remember(question(4096, &asks), ALICE, now);
    for wrong in wrong {
        assert!(!questions.answer(&wrong, now), "{wrong:?}");
    }
    // Resolvers may write a name in other letters than they were asked in.
    let right = answered(4096, asked(7, "A.Example", A));
    assert!(questions.answer(&right, now));
    assert!(!questions.answer(&right, now), "a second time");
}

#[test]
fn a_question_can_be_answered_for_some_seconds_and_asking_again_counts_anew() {
    let now = Instant::now();
    let asks = question(4096, &asked(7, "a.example", A));
    let mut questions = Questions::default();
    questions.remember(asks.clone(), ALICE, now);
    assert!(!questions.answer(&asks, now + LIFE));
    questions.remember(asks.clone(), ALICE, now);
    questions.remember(asks.clone(), ALICE, now + LIFE / 2);
    assert!(questions.answer(&asks, now + LIFE));
    assert!(questions.all.is_empty() && questions.of.is_empty());
}

#[test]
fn a_sender_that_asks_too_much_loses_its_own_questions() {
    let now = Instant::now();
    let mut questions = Questions::default();
    let bobs = question(1, &asked(1, "b.example", A));
    questions.remember(bobs.clone(), BOB, now);
    let mut gone = 0;
    for n in 0..SHARE + 10 {
        let port = 2000 + u16::try_from(n).unwrap();
        let asks = question(port, &asked(1, "a.example", A));
        let lost = questions.remember(asks, ALICE, now);
        gone += lost.get(&ALICE).copied().unwrap_or(0);
    }
    assert_eq!(gone, 10);
    assert!(questions.answer(&bobs, now));
    let first = question(2000, &asked(1, "a.example", A));
    assert!(!questions.answer(&first, now));
    // What could not be answered any more is no loss.
    let late = question(1, &asked(1, "late.example", A));
    assert!(questions.remember(late, ALICE, now + LIFE).is_empty());
    assert_eq!(questions.all.len(), 1);
}

#[test]
fn when_all_together_ask_too_much_whoever_asks_most_loses() {
    let now = Instant::now();
    let mut questions = Questions::default();
    let ask = |questions: &mut Questions, user: u32, n: u16| {
        let asks = question(n, &asked(u16::try_from(user).unwrap(), "a.example", A));
        questions.remember(asks.clone(), Sender::Number(user), now);
        asks
    };
    let one = ask(&mut questions, 9999, 1);
    for user in 0..40 {
        for n in 0..1000 {
            ask(&mut questions, user, n);
        }
    }
    assert_eq!(questions.all.len(), ALL);
    assert!(questions.answer(&one, now), "who asks little keeps it");
}

#[test]
fn what_is_no_single_question_is_none() {
    let asks = asked(7, "a.example", A);
    let segment = Segment::read_question(&asking(false, None, 4096, &asks)).unwrap();
    let of = |bytes: &[u8]| Question::of(&segment, bytes, false);
    assert!(of(&asks).is_some());
    // Two questions, none, an answer, another kind of message; and one that is cut.
    for (at, value) in [(5, 2), (5, 0), (2, 0x81), (2, 0x21)] {
        let mut bytes = asks.clone();
        bytes[at] = value;
        assert_eq!(of(&bytes), None, "{at} {value}");
    }
    assert_eq!(of(&asks[..20]), None);
}

proptest! {
    #[test]
    fn what_is_asked_is_what_is_answered_in_any_schedule(
        steps in prop::collection::vec((0u8..3, 0u16..4, 0u16..3, 0u64..9), 1..200),
    ) {
        // A plain list of what was asked when, without bounds that so few can reach.
        let (mut questions, mut plain) = (Questions::default(), Vec::<(Question, Instant)>::new());
        let mut now = Instant::now();
        for (what, port, id, later) in steps {
            now += Duration::from_secs(later);
            let asks = question(port, &asked(id, "a.example", A));
            let known = plain.iter().position(|(one, _)| *one == asks).map(|at| plain.remove(at));
            if what == 0 {
                let expected = known.is_some_and(|(_, at)| now - at < LIFE);
                prop_assert_eq!(questions.answer(&asks, now), expected);
            } else {
                questions.remember(asks.clone(), if what == 1 { ALICE } else { BOB }, now);
                plain.push((asks, now));
            }
            let in_order: usize = questions.of.values().map(BTreeMap::len).sum();
            prop_assert_eq!(in_order, questions.all.len());
        }
    }
}
