//! Cuts a stream of bytes into D-Bus messages, without keeping what is too large or not wanted.

/// The part of a header whose length does not vary (D-Bus specification, "Message Format").
const FIXED: usize = 16;
/// The largest message that the specification allows, in bytes.
const SPECIFIED: u64 = 128 * 1024 * 1024;

/// A message off the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed {
    /// All of it.
    Whole(Vec<u8>),
    /// The header of one that is too large, changed to say that there is no body.
    Cut(Vec<u8>),
}

/// The stream is not D-Bus, or has lost its place: nothing after this can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Holds what was read and is not a whole message yet: less than `most` bytes and one read.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes still to come of a message that is not kept.
    skip: u64,
    most: usize,
}

/// Lengths that a header gives, in bytes.
struct Lengths {
    /// With the padding after its fields.
    header: u64,
    body: u64,
}

impl Framer {
    /// Keeps messages of up to `most` bytes.
    pub fn new(most: usize) -> Framer {
        Framer {
            buffer: Vec::new(),
            skip: 0,
            most,
        }
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        self.skip -= skipped as u64;
        self.buffer
            .extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next message of a kind that is wanted, if it is all there.
    ///
    /// # Errors
    /// The stream cannot be understood.
    pub fn take(&mut self, wants: impl Fn(u8) -> bool) -> Result<Option<Framed>, Malformed> {
        loop {
            let Some(fixed) = self.buffer.first_chunk::<FIXED>() else {
                return Ok(None);
            };
            let lengths = lengths(fixed)?;
            let (header, total) = (lengths.header, lengths.header + lengths.body);
            if !wants(fixed[1]) || header > self.most as u64 {
                self.drop_front(total);
            } else if total <= self.most as u64 {
                let total = total as usize;
                if self.buffer.len() < total {
                    return Ok(None);
                }
                let rest = self.buffer.split_off(total);
                return Ok(Some(Framed::Whole(std::mem::replace(
                    &mut self.buffer,
                    rest,
                ))));
            } else {
                let Some(head) = self.buffer.get(..header as usize) else {
                    return Ok(None);
                };
                let mut head = head.to_vec();
                head[4..8].fill(0);
                self.drop_front(total);
                return Ok(Some(Framed::Cut(head)));
            }
        }
    }

    fn drop_front(&mut self, bytes: u64) {
        let here = usize::try_from(bytes).map_or(self.buffer.len(), |n| n.min(self.buffer.len()));
        self.buffer.drain(..here);
        self.skip = bytes - here as u64;
    }
}

fn lengths(fixed: &[u8; FIXED]) -> Result<Lengths, Malformed> {
    let number = |at: usize| {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        match fixed[0] {
            b'l' => Ok(u64::from(u32::from_le_bytes(bytes))),
            b'B' => Ok(u64::from(u32::from_be_bytes(bytes))),
            _ => Err(Malformed),
        }
    };
    let header = (FIXED as u64 + number(12)?).next_multiple_of(8);
    let body = number(4)?;
    match header + body <= SPECIFIED {
        true => Ok(Lengths { header, body }),
        false => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of this kind, with so many bytes of fields and of body.
    fn message(kind: u8, fields: u32, body: u32) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.extend(body.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        bytes.extend(fields.to_le_bytes());
        bytes.resize((FIXED + fields as usize).next_multiple_of(8), b'f');
        bytes.resize(bytes.len() + body as usize, b'b');
        bytes
    }

    fn all(framer: &mut Framer, out: &mut Vec<Framed>) {
        while let Some(framed) = framer.take(|kind| kind != 4).unwrap() {
            out.push(framed);
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_the_stream_was_cut(
            sizes in prop::collection::vec((1u8..=4, 0u32..300, 0u32..900), 0..8),
            reads in prop::collection::vec(1usize..200, 1..8),
        ) {
            const MOST: usize = 512;
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (kind, fields, body) in sizes {
                let whole = message(kind, fields, body);
                stream.extend_from_slice(&whole);
                if kind == 4 {
                    continue;
                }
                expected.push(match whole.len() <= MOST {
                    true => Framed::Whole(whole),
                    false => Framed::Cut(message(kind, fields, 0)),
                });
            }
            let mut framer = Framer::new(MOST);
            let (mut out, mut reads) = (Vec::new(), reads.iter().cycle());
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let read = reads.next().map_or(1, |n| (*n).min(rest.len()));
                framer.push(&rest[..read]);
                rest = &rest[read..];
                all(&mut framer, &mut out);
                prop_assert!(framer.buffer.len() < MOST + 200);
            }
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error_and_never_much_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..4096),
        ) {
            let mut framer = Framer::new(256);
            for chunk in bytes.chunks(64) {
                framer.push(chunk);
                while let Ok(Some(_)) = framer.take(|_| true) {}
            }
            prop_assert!(framer.buffer.capacity() <= 16_384);
        }
    }

    #[test]
    fn a_message_larger_than_d_bus_allows_ends_the_stream() {
        let mut framer = Framer::new(512);
        let mut huge = message(1, 0, 0);
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        framer.push(&huge);
        assert_eq!(framer.take(|_| true), Err(Malformed));
    }
}
