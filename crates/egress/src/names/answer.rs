//! An answer of the domain name system, read for its addresses (RFC 1035).
//!
//! The wire format is read by the crate `domain`, which checks every length and never follows a
//! compression pointer forward. Only records of type A, AAAA and CNAME are looked into; any other,
//! HTTPS and SVCB with their address hints among them, is passed over by its length.

use std::net::IpAddr;

use domain::{
    base::{
        Message, Name,
        iana::{Class, Opcode, Rtype},
        name::ToName,
    },
    rdata::{A, Aaaa, Cname},
};

use super::{pattern::is_host_name, wire::question_end};

/// Longest chain of `CNAME`s followed; resolvers stop at about as many.
const CHAIN_MAX: usize = 16;
/// Records looked at, and addresses taken, of one answer: more than a datagram holds.
const RECORDS_MAX: usize = 4_096;
const ADDRESSES_MAX: usize = 256;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked for, in lower case, without its closing dot. `None` where it is no
    /// host name: no class can allow it.
    pub asked: Option<String>,
    /// The addresses that its records lead to from the asked name, each with the least time to live
    /// on the way to it, seconds.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Why a message is not an answer to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is not what RFC 1035 describes: nobody should read it.
    Malformed,
    /// Its sender cut it and says so: whoever asked should ask again over TCP.
    Truncated,
}

impl Answer {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn read(message: &[u8]) -> Result<Self, Unusable> {
        let message = Message::from_slice(message).map_err(|_| Unusable::Malformed)?;
        let header = message.header();
        if !header.qr() || header.opcode() != Opcode::QUERY {
            return Err(Unusable::Malformed);
        }
        if header.tc() {
            return Err(Unusable::Truncated);
        }
        question_end(message.as_slice()).ok_or(Unusable::Malformed)?;
        read(message).ok_or(Unusable::Malformed)
    }
}

fn read(message: &Message<[u8]>) -> Option<Answer> {
    let question = message.sole_question().ok()?;
    let mut chain: Vec<(Name<Vec<u8>>, u32)> = vec![(question.qname().to_name(), u32::MAX)];
    let asked = text(&chain.first()?.0);
    let mut aliases = Vec::new();
    let mut found = Vec::new();
    let section = message.answer().ok()?;
    // A section that cannot be walked to its end is malformed, whatever was read before.
    for record in section {
        let record = record.ok()?;
        if aliases.len() + found.len() >= RECORDS_MAX {
            return None;
        }
        if record.class() != Class::IN {
            continue;
        }
        let ttl = record.ttl().as_secs();
        let owner = record.owner();
        let address: IpAddr = match record.rtype() {
            Rtype::CNAME => {
                let alias = record.to_record::<Cname<_>>().ok()??;
                aliases.push((owner, ttl, alias.into_data().into_cname()));
                continue;
            }
            Rtype::A => IpAddr::from(record.to_record::<A>().ok()??.data().addr()),
            Rtype::AAAA => IpAddr::from(record.to_record::<Aaaa>().ok()??.data().addr()),
            _ => continue,
        };
        found.push((owner, ttl, address));
    }
    while chain.len() <= CHAIN_MAX
        && let Some((last, least)) = chain.last()
        && let Some((_, ttl, target)) = aliases.iter().find(|(owner, ..)| owner.name_eq(last))
    {
        if chain.iter().any(|(known, _)| target.name_eq(known)) {
            break;
        }
        let next = (target.to_name(), (*least).min(*ttl));
        chain.push(next);
    }
    let mut addresses = Vec::new();
    for (owner, ttl, address) in found {
        let step = chain.iter().find(|(name, _)| owner.name_eq(name));
        if let Some((_, least)) = step
            && addresses.len() < ADDRESSES_MAX
        {
            addresses.push((address, ttl.min(*least)));
        }
    }
    Some(Answer { asked, addresses })
}

/// A name as text, if it is a host's.
fn text(name: &Name<Vec<u8>>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        let label = std::str::from_utf8(label.as_slice()).ok()?;
        // A dot within a label would read as two labels.
        if label.contains('.') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.make_ascii_lowercase();
    is_host_name(&text).then_some(text)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const AAAA: u16 = 28;
    const HTTPS: u16 = 65;

    /// A name on the wire, uncompressed.
    pub fn name(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in text.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    /// A message with these flags, this question and these answers.
    pub fn message(flags: u16, asked: &str, records: &[(&str, u16, u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend((records.len() as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(name(asked));
        bytes.extend([0, 1, 0, 1]);
        for (owner, kind, ttl, data) in records {
            bytes.extend(name(owner));
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    const ANSWER: u16 = 0x8180;

    fn read(bytes: &[u8]) -> (Option<String>, Vec<(String, u32)>) {
        let answer = Answer::read(bytes).unwrap();
        let addresses = answer.addresses.iter();
        let addresses = addresses.map(|(address, ttl)| (address.to_string(), *ttl));
        (answer.asked, addresses.collect())
    }

    #[test]
    fn addresses_of_both_families_are_those_of_the_asked_name() {
        let v6 = [0xfd; 16].to_vec();
        let bytes = message(
            ANSWER,
            "PyPI.org",
            &[
                ("pypi.ORG", A, 300, vec![192, 0, 2, 1]),
                ("pypi.org", AAAA, 60, v6),
            ],
        );
        let (asked, addresses) = read(&bytes);
        assert_eq!(asked.as_deref(), Some("pypi.org"));
        let v6 = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd".to_owned();
        assert_eq!(addresses, [("192.0.2.1".to_owned(), 300), (v6, 60)]);
    }

    #[test]
    fn a_chain_is_followed_and_its_shortest_life_counts() {
        let records = [
            ("c.example", A, 300, vec![192, 0, 2, 3]),
            ("a.example", CNAME, 900, name("b.example")),
            ("b.example", CNAME, 20, name("c.example")),
            ("other.example", A, 300, vec![192, 0, 2, 9]),
        ];
        let (_, addresses) = read(&message(ANSWER, "a.example", &records));
        assert_eq!(addresses, [("192.0.2.3".to_owned(), 20)]);
    }

    #[test]
    fn a_chain_in_a_ring_or_without_end_yields_nothing_and_ends() {
        let ring = [
            ("a.example", CNAME, 9, name("b.example")),
            ("b.example", CNAME, 9, name("a.example")),
        ];
        assert_eq!(read(&message(ANSWER, "a.example", &ring)).1, []);
        let names: Vec<String> = (0..40).map(|n| format!("n{n}.example")).collect();
        let mut long: Vec<_> = names
            .windows(2)
            .map(|two| (two[0].as_str(), CNAME, 9, name(&two[1])))
            .collect();
        long.push(("n39.example", A, 9, vec![192, 0, 2, 1]));
        assert_eq!(read(&message(ANSWER, "n0.example", &long)).1, []);
    }

    #[test]
    fn other_records_and_their_hints_are_passed_over() {
        // Priority 1, target ".", ipv4hint=192.0.2.66; then one whose parameters are nonsense.
        let hint = vec![0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 66];
        let records = [
            ("a.example", HTTPS, 300, hint),
            ("a.example", HTTPS, 300, vec![0, 1, 0, 0, 4, 0xff, 0xff, 1]),
            ("a.example", A, 300, vec![192, 0, 2, 1]),
        ];
        let (_, addresses) = read(&message(ANSWER, "a.example", &records));
        assert_eq!(addresses, [("192.0.2.1".to_owned(), 300)]);
    }

    #[test]
    fn questions_and_half_answers_are_told_apart_from_answers() {
        let good = message(
            ANSWER,
            "a.example",
            &[("a.example", A, 1, vec![1, 2, 3, 4])],
        );
        let unusable = |bytes: &[u8]| Answer::read(bytes).unwrap_err();
        for length in 0..good.len() {
            assert_eq!(unusable(&good[..length]), Unusable::Malformed, "{length}");
        }
        let question = message(0x0100, "a.example", &[]);
        assert_eq!(unusable(&question), Unusable::Malformed);
        let cut = message(ANSWER | 0x0200, "a.example", &[]);
        assert_eq!(unusable(&cut), Unusable::Truncated);
        let short = message(ANSWER, "a.example", &[("a.example", A, 1, vec![1, 2, 3])]);
        assert_eq!(unusable(&short), Unusable::Malformed);
        let notify = message(ANSWER | 0x2000, "a.example", &[]);
        assert_eq!(unusable(&notify), Unusable::Malformed);
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(unusable(&two), Unusable::Malformed);
    }

    #[test]
    fn a_name_that_points_at_itself_or_beyond_is_malformed() {
        for pointer in [[0xc0, 12], [0xc0, 0xff], [0xff, 0xff], [0x40, 1]] {
            let mut bytes = message(ANSWER, "", &[]);
            bytes.truncate(12);
            bytes.extend(pointer);
            bytes.extend([0, 1, 0, 1]);
            assert_eq!(
                Answer::read(&bytes),
                Err(Unusable::Malformed),
                "{pointer:?}"
            );
        }
    }

    /// A refusal overwrites the header, and with it the name. Found by fuzzing.
    #[test]
    fn a_question_whose_name_is_in_the_header_is_malformed() {
        let found = [
            29, 137, 129, 0, 0, 1, 0, 0, 0, 0, 0, 122, 192, 0, 46, 0, 129, 36, 137, 129, 0, 0, 1,
            0, 0, 0, 0, 0, 122, 192, 0, 46, 0, 3, 127, 3, 127,
        ];
        for at in 0..12u8 {
            let mut bytes = message(ANSWER, "", &[]);
            bytes.splice(12..13, [1, b'a', 0xc0, at]);
            assert_eq!(Answer::read(&bytes), Err(Unusable::Malformed), "{at}");
        }
        assert_eq!(Answer::read(&found), Err(Unusable::Malformed));
    }

    #[test]
    fn what_is_no_host_name_is_nobodys() {
        let mut bytes = message(ANSWER, "a", &[]);
        for odd in [b'\n', b' ', b'.', 0xc3, 0] {
            bytes[13] = odd;
            assert_eq!(Answer::read(&bytes).unwrap().asked, None, "{odd}");
        }
        assert_eq!(Answer::read(&message(ANSWER, "", &[])).unwrap().asked, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Answer::read(&bytes);
        }

        #[test]
        fn an_answer_with_some_bytes_changed_is_read_without_a_panic_and_within_bounds(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let records = [
                ("a.example", CNAME, 900, name("b.example")),
                ("b.example", A, 300, vec![192, 0, 2, 3]),
                ("b.example", AAAA, 300, vec![7; 16]),
                ("b.example", HTTPS, 300, vec![0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 66]),
            ];
            let mut bytes = message(ANSWER, "a.example", &records);
            for (at, to) in changes {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            if let Ok(answer) = Answer::read(&bytes) {
                prop_assert!(answer.addresses.len() <= 4);
                prop_assert!(answer.asked.is_none_or(|name| is_host_name(&name)));
            }
        }

        #[test]
        fn addresses_come_only_from_the_asked_names_chain(
            owners in prop::collection::vec(0usize..4, 1..20), targets in prop::collection::vec(0usize..4, 1..20),
        ) {
            // What is read must be what a plain search of the same records finds.
            let names = ["a.example", "b.example", "c.example", "d.example"];
            let mut records = Vec::new();
            for (n, (owner, target)) in owners.iter().zip(&targets).enumerate() {
                match n % 2 {
                    0 => records.push((names[*owner], CNAME, 60, name(names[*target]))),
                    _ => records.push((names[*owner], A, 60, vec![10, 0, *owner as u8, n as u8])),
                }
            }
            let mut reached = vec![0];
            while let Some(next) = owners.iter().zip(&targets).step_by(2)
                .find(|(owner, _)| Some(*owner) == reached.last()).map(|(_, target)| *target)
            {
                if reached.contains(&next) {
                    break;
                }
                reached.push(next);
            }
            let (_, addresses) = read(&message(ANSWER, names[0], &records));
            let expected: Vec<String> = records.iter()
                .filter(|(owner, kind, ..)| *kind == A && reached.iter().any(|n| names[*n] == *owner))
                .map(|(_, _, _, data)| format!("10.0.{}.{}", data[2], data[3])).collect();
            let found: Vec<String> = addresses.into_iter().map(|(address, _)| address).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
