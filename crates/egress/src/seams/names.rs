//! What resolvers' answers are read by.

use super::Choices;
use crate::names::{
    Answer, Brings, Question, Questions, SYN, Segment, Sender, Streams, Unusable, refuse,
};
use arbitrary::Unstructured;
use std::time::{Duration, Instant};

/// Packets, messages and streams of resolvers.
pub fn names(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    match u.below(4) {
        0 => packet(u.take_rest()),
        1 => message(u.take_rest()),
        2 => conversation(u),
        _ => stream(u),
    }
}

fn packet(packet: &[u8]) {
    asked_and_answered(packet);
    let Some(segment) = Segment::read(packet) else {
        return;
    };
    let content = packet.get(segment.content.clone());
    message(content.expect("content within the packet"));
    if let Some(refused) = segment.refused(packet, segment.content.clone()) {
        assert_eq!(refused.len(), packet.len());
        assert_eq!(Segment::read(&refused), Some(segment), "the same headers");
    }
}

/// A question is answered once, and by nothing else.
fn asked_and_answered(packet: &[u8]) {
    let Some(segment) = Segment::read_question(packet) else {
        return;
    };
    let content = packet.get(segment.content.clone());
    let content = content.expect("content within the packet");
    let Some(question) = Question::of(&segment, content, false) else {
        return;
    };
    assert_eq!(Question::of(&segment, content, true), None);
    let now = Instant::now();
    let mut questions = Questions::default();
    assert!(!questions.answer(&question, now));
    questions.remember(question, Sender::Unknown, now);
    let mut answer = content.to_vec();
    if let Some(flags) = answer.get_mut(2) {
        *flags |= 0x80;
    }
    let answer = Question::of(&segment, &answer, true).expect("an answer");
    assert!(questions.answer(&answer, now));
    assert!(!questions.answer(&answer, now));
}

fn message(bytes: &[u8]) {
    let answer = Answer::read(bytes);
    if let Ok(Answer { asked, addresses }) = &answer {
        assert!(addresses.len() * 4 <= bytes.len(), "{addresses:?}");
        if let Some(name) = asked {
            assert!(
                name.len() <= 253 && name.is_ascii() && !name.ends_with('.'),
                "{name:?}"
            );
        }
    }
    let mut refused = bytes.to_vec();
    if refuse(&mut refused).is_some() {
        assert_eq!(refused.len(), bytes.len());
        match (answer, Answer::read(&refused)) {
            (Ok(before), Ok(after)) => {
                assert_eq!(after.asked, before.asked);
                assert_eq!(after.addresses, []);
            }
            (Ok(_), Err(why)) => panic!("whoever asked cannot read the refusal: {why:?}"),
            (Err(Unusable::Malformed | Unusable::Truncated), _) => {}
        }
    }
}

/// Segments of a few flows, with any content and numbers.
fn conversation(mut u: Unstructured<'_>) {
    let mut streams = Streams::default();
    let mut now = Instant::now();
    for _ in 0..64 {
        if u.is_empty() {
            return;
        }
        now += Duration::from_secs(u.any::<u8>().into());
        let length = u.any::<u8>().into();
        let content: Vec<u8> = (0..length).map(|_| u.any::<u8>()).collect();
        let seq = u.any::<u16>().into();
        let segment = segment(u.any::<u8>() % 3, seq, u.any::<u8>(), content.len());
        match streams.take(&segment, &content, Sender::Unknown, now) {
            Brings::Messages(messages) => {
                for one in messages {
                    message(&one.bytes);
                    if let Some(at) = one.at {
                        assert_eq!(content.get(at), Some(&*one.bytes));
                    }
                }
            }
            Brings::Gap => streams.shut(&segment),
            Brings::Nothing | Brings::Shut => {}
        }
    }
}

/// Messages cut anywhere, with parts sent again: each comes out once, whole and in order.
fn stream(mut u: Unstructured<'_>) {
    let messages: Vec<Vec<u8>> = u.some(4, |u| {
        let length = u.any::<u16>() % 400;
        (0..length).map(|_| u.any::<u8>()).collect()
    });
    let mut sent = Vec::new();
    for one in &messages {
        sent.extend(u16::try_from(one.len()).expect("short").to_be_bytes());
        sent.extend(one);
    }
    let first: u32 = u.any();
    let now = Instant::now();
    let mut streams = Streams::default();
    streams.take(&segment(0, first, SYN, 0), &[], Sender::Unknown, now);
    let mut came = Vec::new();
    let mut at = 0;
    while at < sent.len() {
        let again = at.min(u.below(5));
        let end = sent.len().min(at + 1 + u.below(200));
        let content = sent.get(at - again..end).expect("a part");
        let seq = first.wrapping_add(1 + (at - again) as u32);
        match streams.take(
            &segment(0, seq, 0, content.len()),
            content,
            Sender::Unknown,
            now,
        ) {
            Brings::Nothing => {}
            Brings::Messages(more) => came.extend(more.into_iter().map(|one| one.bytes)),
            other => panic!("{other:?} of a stream in order"),
        }
        at = end;
    }
    assert_eq!(came, messages);
}

/// A segment with a content of this length, as it is read of a packet.
fn segment(flow: u8, seq: u32, flags: u8, length: usize) -> Segment {
    let total = u16::try_from(40 + length).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 53, 192, 0, 2, flow]);
    packet.extend([0, 53, 0x80, 0]);
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.resize(total.into(), 0);
    Segment::read(&packet).expect("a segment")
}
