use proptest::prelude::*;

use super::*;
use crate::names::answer::tests::{A, message};

/// A packet from a resolver to port 4096.
pub fn packet(v6: bool, tcp: Option<(u32, u8)>, content: &[u8]) -> Vec<u8> {
    let mut transport = vec![0, 53, 0x10, 0];
    match tcp {
        Some((seq, flags)) => {
            transport.extend(seq.to_be_bytes());
            transport.extend([0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        None => {
            transport.extend((8 + content.len() as u16).to_be_bytes());
            transport.extend([0, 1]);
        }
    }
    transport.extend(content);
    let protocol = if tcp.is_some() { 6 } else { 17 };
    let mut packet = if v6 {
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend((transport.len() as u16).to_be_bytes());
        ip.extend([protocol, 64]);
        ip.extend([0xfd; 16]);
        ip.extend([0xfe; 16]);
        ip
    } else {
        let mut ip = vec![0x45, 0];
        ip.extend((20 + transport.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        ip
    };
    packet.extend(transport);
    packet
}

/// A packet from this port of who is answered by [`packet`], to the resolver.
pub fn asking(v6: bool, tcp: Option<(u32, u8)>, port: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = packet(v6, tcp, content);
    let (at, length) = if v6 { (8, 16) } else { (12, 4) };
    let (source, destination) = bytes[at..at + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    let at = at + 2 * length;
    bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
    bytes[at + 2..at + 4].copy_from_slice(&53u16.to_be_bytes());
    bytes
}

/// What a receiver's sum over transport and pseudo header must come to.
fn sums_up(segment: &Segment, packet: &[u8]) -> bool {
    let protocol = if segment.transport == Transport::Udp {
        17
    } else {
        6
    };
    let body = &packet[segment.transport_at..segment.content.end];
    let mut sum = words(body) + protocol + body.len() as u64;
    for address in [segment.flow.from, segment.flow.to] {
        sum += match address {
            IpAddr::V4(a) => words(&a.octets()),
            IpAddr::V6(a) => words(&a.octets()),
        };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

#[test]
fn datagrams_and_segments_of_both_families_are_taken_apart() {
    for v6 in [false, true] {
        for tcp in [None, Some((77, 0x18))] {
            let bytes = packet(v6, tcp, b"hello");
            let segment = Segment::read(&bytes).unwrap();
            assert_eq!(&bytes[segment.content.clone()], b"hello");
            assert_eq!(segment.flow.port, 0x1000);
            assert_eq!(segment.flow.from.is_ipv6(), v6);
            assert_eq!((segment.seq, segment.flags), tcp.unwrap_or((0, 0)));
            for length in 0..bytes.len() {
                assert_eq!(Segment::read(&bytes[..length]), None, "{length}");
            }
            let mut elsewhere = bytes.clone();
            elsewhere[segment.transport_at + 1] = 54;
            assert_eq!(Segment::read(&elsewhere), None);
        }
    }
    let mut fragment = packet(false, None, b"hello");
    fragment[6] = 0x20;
    assert_eq!(Segment::read(&fragment), None);
}

#[test]
fn a_refused_answer_says_that_there_is_no_such_name_and_keeps_its_length() {
    use domain::base::{Message, iana::Rcode};
    let record = ("pool.example", A, 60, vec![192, 0, 2, 1]);
    let answer = message(0x8580, "pool.example", &[record.clone(), record]);
    for v6 in [false, true] {
        for tcp in [None, Some((77, 0x18))] {
            let bytes = packet(v6, tcp, &answer);
            let segment = Segment::read(&bytes).unwrap();
            let refused = segment.refused(&bytes, segment.content.clone()).unwrap();
            assert_eq!(refused.len(), bytes.len());
            assert!(sums_up(&segment, &refused));
            let content = &refused[segment.content.clone()];
            let message = Message::from_slice(content).unwrap();
            assert_eq!(message.header().rcode(), Rcode::NXDOMAIN);
            assert_eq!(message.header_counts().ancount(), 0);
            assert!(message.sole_question().is_ok() && message.opt().is_some());
            assert!(!content.windows(4).any(|four| four == [192, 0, 2, 1]));
        }
    }
}

#[test]
fn a_question_and_its_answer_are_of_one_flow() {
    for v6 in [false, true] {
        for tcp in [None, Some((77, 0x18))] {
            let answer = Segment::read(&packet(v6, tcp, b"hello")).unwrap();
            let bytes = asking(v6, tcp, answer.flow.port, b"hello");
            let question = Segment::read_question(&bytes).unwrap();
            assert_eq!(question, answer);
            assert_eq!(Segment::read(&bytes), None, "it comes from no resolver");
        }
    }
}

proptest! {
    #[test]
    fn any_packet_is_read_and_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..150),
        first in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0]), protocol in prop::sample::select(vec![6u8, 17, 0]),
    ) {
        let mut bytes = bytes;
        for (at, to) in [(0, first), (6, if first == 0x60 { protocol } else { 0 }), (9, protocol)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
        }
        if let Some(segment) = Segment::read_question(&bytes) {
            prop_assert!(segment.content.end <= bytes.len());
        }
        if let Some(segment) = Segment::read(&bytes) {
            prop_assert!(segment.content.end <= bytes.len());
            let _ = segment.refused(&bytes, segment.content.clone());
        }
    }

    #[test]
    fn any_message_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = bytes;
        let length = bytes.len();
        let _ = refuse(&mut bytes);
        prop_assert_eq!(bytes.len(), length);
    }
}
