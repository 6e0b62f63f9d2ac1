//! A queued packet: which bytes of it are DNS, and how they are overwritten.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use crate::Transport;

/// Port of the domain name system.
const DNS: u16 = 53;
/// Bytes of a message's header.
pub const DNS_HEADER: usize = 12;
/// No such name (RFC 1035, 4.1.1).
const NXDOMAIN: u8 = 3;

/// A UDP datagram or TCP segment from a resolver, by its places in the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The transport protocol.
    pub transport: Transport,
    /// Which flow it belongs to.
    pub flow: Flow,
    /// The first byte's number in the stream and the flags, of TCP.
    pub seq: u32,
    /// TCP's flags.
    pub flags: u8,
    /// Where its content is.
    pub content: Range<usize>,
    /// Where the transport header is.
    transport_at: usize,
}

/// A resolver and who asks it, whichever of them sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The resolver.
    pub from: IpAddr,
    /// Who asked it.
    pub to: IpAddr,
    /// From which port.
    pub port: u16,
}

/// TCP's flags.
pub const FIN: u8 = 0x01;
#[allow(missing_docs)]
pub const SYN: u8 = 0x02;
#[allow(missing_docs)]
pub const RST: u8 = 0x04;

impl Segment {
    /// Reads a packet from its IP header on; `None` if it is not what a resolver sends, or cut.
    pub fn read(packet: &[u8]) -> Option<Self> {
        Self::of(packet, true)
    }

    /// The same of a packet to a resolver, on whatever port an admin's rules have it answered.
    pub fn read_question(packet: &[u8]) -> Option<Self> {
        Self::of(packet, false)
    }

    fn of(packet: &[u8], answer: bool) -> Option<Self> {
        let first = *packet.first()?;
        let (source, destination, protocol, transport_at, end) = match first >> 4 {
            4 => {
                let header = usize::from(first & 0xf) * 4;
                let total = usize::from(be16(packet, 2)?);
                // A fragment that the kernel did not put together is nothing to learn from.
                if header < 20 || be16(packet, 6)? & 0x3fff != 0 {
                    return None;
                }
                let address = |at| Some(IpAddr::from(Ipv4Addr::from(bytes::<4>(packet, at)?)));
                (address(12)?, address(16)?, *packet.get(9)?, header, total)
            }
            6 => {
                let address = |at| Some(IpAddr::from(Ipv6Addr::from(bytes::<16>(packet, at)?)));
                let total = 40 + usize::from(be16(packet, 4)?);
                let (protocol, at) = after_extensions(packet)?;
                (address(8)?, address(24)?, protocol, at, total)
            }
            _ => return None,
        };
        let transport = match protocol {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            _ => return None,
        };
        let header = packet.get(transport_at..end)?;
        let (source_port, port) = (be16(header, 0)?, be16(header, 2)?);
        if answer && source_port != DNS {
            return None;
        }
        let flow = match answer {
            true => Flow {
                from: source,
                to: destination,
                port,
            },
            false => Flow {
                from: destination,
                to: source,
                port: source_port,
            },
        };
        let (seq, flags, content) = match transport {
            Transport::Udp => {
                // The kernel checked that a socket gets this length.
                let length = usize::from(be16(header, 4)?);
                (0, 0, transport_at + 8..transport_at + length)
            }
            Transport::Tcp => {
                let seq = u32::from_be_bytes(bytes(header, 4)?);
                let offset = usize::from(header.get(12)? >> 4) * 4;
                if offset < 20 {
                    return None;
                }
                (seq, *header.get(13)?, transport_at + offset..end)
            }
        };
        packet.get(content.clone())?;
        Some(Self {
            transport,
            flow,
            seq,
            flags,
            content,
            transport_at,
        })
    }

    /// The packet with the DNS message at `message` turned into "no such name", its length kept:
    /// in a stream the bytes after it keep their places.
    ///
    /// The records become one of padding (RFC 7830), which every reader passes over. `None` if the
    /// message is too short to be an answer.
    pub fn refused(&self, packet: &[u8], message: Range<usize>) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        refuse(packet.get_mut(message)?)?;
        self.sum_up(&mut packet)?;
        Some(packet)
    }

    /// Writes the transport's checksum anew.
    fn sum_up(&self, packet: &mut [u8]) -> Option<()> {
        let (at, protocol) = match self.transport {
            Transport::Udp => (self.transport_at + 6, 17u8),
            Transport::Tcp => (self.transport_at + 16, 6),
        };
        // Over IPv4, zero says that there is none.
        if self.transport == Transport::Udp && self.flow.to.is_ipv4() && be16(packet, at)? == 0 {
            return Some(());
        }
        packet.get_mut(at..at + 2)?.fill(0);
        let body = packet.get(self.transport_at..self.content.end)?;
        let mut sum = u64::from(protocol) + body.len() as u64;
        for address in [self.flow.from, self.flow.to] {
            sum += match address {
                IpAddr::V4(address) => words(&address.octets()),
                IpAddr::V6(address) => words(&address.octets()),
            };
        }
        sum += words(body);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "folded to 16 bits just now"
        )]
        let sum = match !(sum as u16) {
            0 => 0xffff,
            sum => sum,
        };
        packet
            .get_mut(at..at + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        Some(())
    }
}

/// Turns an answer into "no such name".
pub fn refuse(message: &mut [u8]) -> Option<()> {
    let end = question_end(message)?;
    let (question, rest) = message.split_at_mut_checked(end)?;
    let head: &mut [u8; DNS_HEADER] = question.first_chunk_mut()?;
    // Neither authentic nor authoritative any more.
    head[2] &= !0x04;
    head[3] = (head[3] & !0x2f) | NXDOMAIN;
    head[6..].fill(0);
    rest.fill(0);
    const OPT: [u8; 9] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0];
    const PADDING: u16 = 12;
    // The record's head, its length, the option's number and length; then as many zeros.
    let body = rest.len().checked_sub(OPT.len() + 2);
    if let Some(body) = body.filter(|body| *body >= 4)
        && let (Ok(body), Ok(zeros)) = (u16::try_from(body), u16::try_from(body - 4))
    {
        let mut record = OPT.to_vec();
        for number in [body, PADDING, zeros] {
            record.extend(number.to_be_bytes());
        }
        rest.get_mut(..record.len())?.copy_from_slice(&record);
        head[11] = 1;
    }
    Some(())
}

/// Where the first question of a message ends. A name in it that is compressed would be somewhere in
/// the header, which is no place for names: there is none then.
pub fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = DNS_HEADER;
    loop {
        match usize::from(*message.get(at)?) {
            0 => {
                at += 1;
                break;
            }
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 4;
    (end <= message.len()).then_some(end)
}

/// The sum of big-endian 16-bit words, an odd byte padded.
fn words(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks();
    let sum: u64 = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)))
        .sum();
    match odd {
        [odd] => sum + (u64::from(*odd) << 8),
        _ => sum,
    }
}

fn bytes<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

fn be16(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes(packet, at)?))
}

/// The transport protocol of an IPv6 packet that is no fragment, and where its header is.
fn after_extensions(packet: &[u8]) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut protocol, mut at) = (*packet.get(6)?, 40);
    while [HOP_BY_HOP, ROUTING, DESTINATION].contains(&protocol) {
        protocol = *packet.get(at)?;
        at += 8 + usize::from(*packet.get(at + 1)?) * 8;
    }
    Some((protocol, at))
}

#[cfg(test)]
pub mod tests;
