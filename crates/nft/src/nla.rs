//! Netlink attributes: a type, a length and a value, padded to four bytes, some with more
//! attributes inside (`nla_*` in `include/net/netlink.h`).
//!
//! nf_tables numbers are big-endian, netlink's own headers are in host order.

use crate::uapi::{NLA_F_NESTED, NLA_TYPE_MASK};

const HEADER: usize = 4;

/// Rounds up to the next multiple of four.
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Writes attributes one after another.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: Option<usize>,
}

impl Writer {
    /// One attribute with these bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.open(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad()
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A big-endian 16-bit number.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A big-endian 32-bit number.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A big-endian 64-bit number.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with its closing NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.open(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad()
    }

    /// An attribute with the attributes that `fill` writes in it.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.open(kind | NLA_F_NESTED, 0);
        fill(self);
        let length = self.bytes.len() - start;
        let field = self
            .bytes
            .get_mut(start..)
            .and_then(|b| b.first_chunk_mut());
        match (u16::try_from(length), field) {
            (Ok(length), Some(field)) => *field = length.to_ne_bytes(),
            _ => self.too_long = self.too_long.or(Some(length)),
        }
        self
    }

    /// Attributes that were written elsewhere.
    pub fn raw(&mut self, attributes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(attributes);
        self.pad()
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    ///
    /// # Errors
    /// The length, bytes, of an attribute that its 16-bit length field cannot express.
    pub fn finish(self) -> Result<Vec<u8>, usize> {
        self.too_long.map_or(Ok(self.bytes), Err)
    }

    fn open(&mut self, kind: u16, length: usize) {
        let total = length + HEADER;
        let field = u16::try_from(total).unwrap_or_else(|_| {
            self.too_long = self.too_long.or(Some(total));
            0
        });
        self.bytes.extend_from_slice(&field.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) -> &mut Self {
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }
}

/// One attribute as read; its value borrows from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, the flag bits taken off.
    pub kind: u16,
    /// Its value without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as a number of one byte.
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as a big-endian number.
    pub fn be16(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.value.get(..2)?.try_into().ok()?))
    }

    /// The value as a big-endian number.
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// The value as a big-endian number.
    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.get(..8)?.try_into().ok()?))
    }

    /// The value as text, up to its first NUL.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// Reads attributes one after another, and stops at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub fn get(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|attribute| attribute.kind == kind)
    }

    /// The first attribute of a type, as text.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        self.get(kind)?.text()
    }

    /// The first attribute of a type, as a number.
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.be32()
    }

    /// The first attribute of a type, as a number.
    pub fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.be64()
    }

    /// The first attribute of a type, as bytes; none is no bytes.
    pub fn bytes(self, kind: u16) -> &'a [u8] {
        self.get(kind).map_or(&[], |attribute| attribute.value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.be32(1, 7).text(2, "abc").nest(3, |w| {
            w.u8(1, 9).be64(2, 1 << 40);
        });
        let bytes = w.finish().unwrap();
        let read = Attributes(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(read.be32(1), Some(7));
        assert_eq!(read.text(2), Some("abc"));
        let nest = read.get(3).unwrap().nested();
        assert_eq!(nest.get(1).unwrap().u8(), Some(9));
        assert_eq!(nest.be64(2), Some(1 << 40));
        assert_eq!(nest.count(), 2);
    }

    #[test]
    fn a_nest_beyond_64_kib_is_refused_with_its_length() {
        let mut w = Writer::default();
        w.nest(1, |w| {
            for _ in 0..70 {
                w.bytes(1, &[0; 1000]);
            }
        });
        assert_eq!(w.finish(), Err(4 + 70 * 1004));
        let mut w = Writer::default();
        w.bytes(1, &[0; 70_000]);
        assert_eq!(w.finish(), Err(70_004));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read_without_a_panic_and_to_an_end(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for attribute in Attributes(&bytes) {
                let _ = (attribute.u8(), attribute.be16(), attribute.be32(), attribute.be64());
                let _ = attribute.text();
                prop_assert!(attribute.nested().count() <= bytes.len() / 4);
            }
        }
    }
}
