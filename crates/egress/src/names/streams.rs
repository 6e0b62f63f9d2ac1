//! DNS over TCP: messages with their length before them, in segments of any size (RFC 1035,
//! 4.2.2).
//!
//! Segments before a message's last are let go at once: nobody can use half an answer, and what
//! is in it is learned before the rest goes on. A stream that is not seen from its beginning, or
//! not in order, is dropped: its sender repeats what is missing, and whoever asked asks again.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    questions::Sender,
    wire::{FIN, Flow, RST, SYN, Segment},
};

/// Flows kept at a time; a resolver's answers take moments.
const FLOWS_MAX: usize = 1_024;
/// And of one sender.
const SHARE: usize = 128;
/// A flow that was silent for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of a message's length.
const PREFIX: usize = 2;

/// What a segment brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brings {
    /// Nothing to read: it may go on.
    Nothing,
    /// It does not follow on what was seen: it may not.
    Gap,
    /// Its stream was shut: it may not.
    Shut,
    /// The end of these messages, in order.
    Messages(Vec<Message>),
}

/// A message that a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its bytes, without the length.
    pub bytes: Vec<u8>,
    /// Where it is in the segment's content, if the whole of it is.
    pub at: Option<Range<usize>>,
}

/// The streams under way.
#[derive(Debug, Default)]
pub struct Streams {
    flows: BTreeMap<Flow, Stream>,
}

#[derive(Debug)]
struct Stream {
    /// Whoever asks by it.
    sender: Sender,
    /// The next byte's number.
    next: u32,
    /// What came of a message that is not whole: at most 64 KiB and its length.
    begun: Vec<u8>,
    seen: Instant,
    /// Nothing more of it is let through.
    shut: bool,
}

impl Streams {
    /// Takes in the content of a segment, from or to whoever asks by it.
    pub fn take(
        &mut self,
        segment: &Segment,
        content: &[u8],
        sender: Sender,
        now: Instant,
    ) -> Brings {
        if segment.flags & SYN != 0 {
            self.flows.remove(&segment.flow);
            self.make_room(sender, now);
            let stream = Stream {
                sender,
                next: segment.seq.wrapping_add(1),
                begun: Vec::new(),
                seen: now,
                shut: false,
            };
            self.flows.insert(segment.flow, stream);
            // Data may come with it (TCP Fast Open), and is repeated later if it is dropped.
            return if content.is_empty() {
                Brings::Nothing
            } else {
                Brings::Gap
            };
        }
        if segment.flags & RST != 0 {
            self.flows.remove(&segment.flow);
            return Brings::Nothing;
        }
        if content.is_empty() {
            return Brings::Nothing;
        }
        let Some(stream) = self.flows.get_mut(&segment.flow) else {
            return Brings::Gap;
        };
        stream.seen = now;
        if stream.shut {
            return Brings::Shut;
        }
        // How much of this came before: a segment sent again, or one that overlaps.
        let known = stream.next.wrapping_sub(segment.seq) as usize;
        if known > content.len() {
            // All of it and more, or it is ahead. Half the number range is before.
            return if known < 1 << 31 {
                Brings::Nothing
            } else {
                Brings::Gap
            };
        }
        stream.next = stream.next.wrapping_add((content.len() - known) as u32);
        let messages = stream.append(content, known);
        if segment.flags & FIN != 0 {
            self.flows.remove(&segment.flow);
        }
        match messages.is_empty() {
            true => Brings::Nothing,
            false => Brings::Messages(messages),
        }
    }

    /// Nothing more of this segment's stream is to go on, nor what was sent of it when that is sent
    /// again.
    pub fn shut(&mut self, segment: &Segment) {
        if let Some(stream) = self.flows.get_mut(&segment.flow) {
            stream.shut = true;
        }
    }

    /// Takes out the oldest of whoever has too many, or of whoever has the most where all together do.
    fn make_room(&mut self, sender: Sender, now: Instant) {
        let mut numbers: BTreeMap<Sender, usize> = BTreeMap::new();
        if self.flows.len() >= SHARE {
            self.flows
                .retain(|_, stream| now.saturating_duration_since(stream.seen) < IDLE);
            for stream in self.flows.values() {
                *numbers.entry(stream.sender).or_default() += 1;
            }
        }
        let own = numbers.get(&sender).copied().unwrap_or(0);
        let from = if own >= SHARE {
            sender
        } else if self.flows.len() >= FLOWS_MAX {
            let most = numbers.into_iter().max_by_key(|(_, number)| *number);
            most.map_or(sender, |(sender, _)| sender)
        } else {
            return;
        };
        let of_it = self.flows.iter().filter(|(_, one)| one.sender == from);
        let oldest = of_it.min_by_key(|(_, stream)| stream.seen);
        if let Some(flow) = oldest.map(|(flow, _)| *flow) {
            self.flows.remove(&flow);
        }
    }
}

impl Stream {
    /// Adds what of `content` is behind `from`, and takes out the messages that are whole.
    fn append(&mut self, content: &[u8], from: usize) -> Vec<Message> {
        let before = self.begun.len();
        self.begun
            .extend_from_slice(content.get(from..).unwrap_or_default());
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some(length) = self.begun.get(at..).and_then(<[u8]>::first_chunk::<PREFIX>) {
            let length = usize::from(u16::from_be_bytes(*length));
            let start = at + PREFIX;
            let Some(bytes) = self.begun.get(start..start + length) else {
                break;
            };
            // What went on in an earlier segment is read there, whatever this one says again.
            let place = start.checked_sub(before).map(|place| place + from);
            messages.push(Message {
                bytes: bytes.to_vec(),
                at: place.map(|place| place..place + length),
            });
            at = start + length;
        }
        self.begun.drain(..at);
        messages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::wire::tests::packet;

    fn segment(seq: u32, flags: u8, content: &[u8]) -> Segment {
        Segment::read(&packet(false, Some((seq, flags)), content)).unwrap()
    }

    fn take(streams: &mut Streams, seq: u32, flags: u8, content: &[u8]) -> Brings {
        let now = Instant::now();
        streams.take(&segment(seq, flags, content), content, ALICE, now)
    }

    const ALICE: Sender = Sender::Uid(1000);
    const BOB: Sender = Sender::Uid(1001);

    fn texts(brings: Brings) -> Vec<String> {
        match brings {
            Brings::Messages(messages) => messages
                .into_iter()
                .map(|message| String::from_utf8(message.bytes).unwrap())
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_in_one_segment_has_its_place_there() {
        let mut streams = Streams::default();
        assert_eq!(take(&mut streams, 9, SYN, b""), Brings::Nothing);
        let Brings::Messages(messages) = take(&mut streams, 10, 0, b"\0\x03one\0\x03two") else {
            panic!();
        };
        assert_eq!(messages[0].at, Some(2..5));
        assert_eq!(messages[1].at, Some(7..10));
    }

    #[test]
    fn segments_again_out_of_order_or_without_a_beginning_are_told_apart() {
        let mut streams = Streams::default();
        assert_eq!(take(&mut streams, 10, 0, b"\0\x03one"), Brings::Gap);
        take(&mut streams, 9, SYN, b"");
        assert_eq!(take(&mut streams, 12, 0, b"one"), Brings::Gap);
        assert_eq!(take(&mut streams, 10, 0, b"\0\x03"), Brings::Nothing);
        assert_eq!(take(&mut streams, 10, 0, b"\0\x03"), Brings::Nothing);
        assert_eq!(texts(take(&mut streams, 10, 0, b"\0\x03one")), ["one"]);
        take(&mut streams, 15, RST, b"");
        assert_eq!(take(&mut streams, 15, 0, b"\0\x03two"), Brings::Gap);
    }

    #[test]
    fn a_message_whose_beginning_went_on_has_no_place_in_what_is_sent_again() {
        let mut streams = Streams::default();
        take(&mut streams, 9, SYN, b"");
        assert_eq!(take(&mut streams, 10, 0, b"\0\x03on"), Brings::Nothing);
        let Brings::Messages(messages) = take(&mut streams, 10, 0, b"\0\x03xxe\0\x03two") else {
            panic!();
        };
        assert_eq!(
            (&messages[0].bytes[..], &messages[0].at),
            (&b"one"[..], &None)
        );
        assert_eq!(
            (&messages[1].bytes[..], &messages[1].at),
            (&b"two"[..], &Some(7..10))
        );
    }

    #[test]
    fn a_stream_that_is_shut_lets_nothing_more_through_nor_anything_again() {
        let mut streams = Streams::default();
        take(&mut streams, 9, SYN, b"");
        let second = segment(10, 0, b"\0\x03one");
        take(&mut streams, 10, 0, b"\0\x03one");
        streams.shut(&second);
        assert_eq!(take(&mut streams, 10, 0, b"\0\x03one"), Brings::Shut);
    }

    fn begin(streams: &mut Streams, sender: Sender, n: u16, now: Instant) {
        let mut one = segment(9, SYN, b"");
        one.flow.port = n;
        let now = now + Duration::from_millis(n.into());
        streams.take(&one, b"", sender, now);
    }

    #[test]
    fn flows_of_a_sender_are_bounded_and_its_oldest_goes() {
        let mut streams = Streams::default();
        let now = Instant::now();
        begin(&mut streams, BOB, 0, now);
        for n in 1..2000 {
            begin(&mut streams, ALICE, n, now);
        }
        assert_eq!(streams.flows.len(), SHARE + 1);
        let least = 2000 - u16::try_from(SHARE).unwrap();
        let kept = |flow: &Flow| flow.port == 0 || flow.port >= least;
        assert!(streams.flows.keys().all(kept));
    }

    #[test]
    fn flows_of_all_are_bounded_and_whoever_has_the_most_loses_one() {
        let mut streams = Streams::default();
        let now = Instant::now();
        begin(&mut streams, BOB, 0, now);
        for n in 1..2000 {
            begin(&mut streams, Sender::Uid((n % 20).into()), n, now);
        }
        assert_eq!(streams.flows.len(), FLOWS_MAX);
        assert!(streams.flows.keys().any(|flow| flow.port == 0));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_messages_come_out_whole_and_once(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cuts in prop::collection::vec(1usize..30, 1..30), start in any::<u32>(), again in any::<bool>(),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend((message.len() as u16).to_be_bytes());
                stream.extend(message);
            }
            let mut streams = Streams::default();
            take(&mut streams, start.wrapping_sub(1), SYN, b"");
            let (mut at, mut found) = (0, Vec::new());
            let mut cuts = cuts.iter().cycle();
            while at < stream.len() {
                let end = (at + cuts.next().unwrap()).min(stream.len());
                let piece = &stream[at..end];
                let seq = start.wrapping_add(at as u32);
                if let Brings::Messages(some) = take(&mut streams, seq, 0, piece) {
                    for message in some {
                        if let Some(place) = message.at {
                            prop_assert_eq!(&piece[place], &message.bytes[..]);
                        }
                        found.push(message.bytes);
                    }
                }
                if again {
                    prop_assert_eq!(take(&mut streams, seq, 0, piece), Brings::Nothing);
                }
                at = end;
            }
            prop_assert_eq!(found, messages);
        }
    }
}
