//! What others did to a table, as the kernel told of it.
//!
//! To read a table back takes long where its sets are large. What the notice names is enough to put
//! it right at once: single elements one by one ([`ForeignChange::elements`]), anything else by the
//! whole table.

use std::{collections::BTreeMap, fmt};

use crate::{decode, message::Reply, nla::Attributes, ruleset::Element, uapi::*};

/// So many single elements are kept, some 300 bytes each: up to there it is quicker to put them right
/// one by one than to write a table anew.
const ELEMENTS_MAX: usize = 16_384;
/// Objects that are named to people; names of objects are others' to choose.
const NAMED_MAX: usize = 5;
/// Characters of such a name.
const NAME_MAX: usize = 48;

/// What one or several transactions of others did to a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignChange {
    /// It is more than `elements` can tell.
    whole: bool,
    /// By family, set and key: what is there now.
    elements: BTreeMap<(u8, String, Vec<u8>), Option<Element>>,
    /// What was done, in the order of its first time, and how often.
    done: Vec<(Done, u32)>,
    /// Further objects that are not named.
    more: u32,
}

/// An element that others added or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedElement<'a> {
    /// The family of its table, `NFPROTO_*`.
    pub family: u8,
    /// Its set.
    pub set: &'a str,
    /// Its key.
    pub key: &'a [u8],
    /// What is there now; `None` after a deletion.
    pub now: Option<&'a Element>,
}

/// A kind of change to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    added: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Table,
    Chain(String),
    RuleOf(String),
    Set(String),
    ElementOf(String),
    Other,
}

impl ForeignChange {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// That of a table which was deleted.
    pub fn of_the_whole_table() -> Self {
        let mut change = Self {
            whole: true,
            ..Self::default()
        };
        let what = What::Table;
        change.note(Done { added: false, what }, 1);
        change
    }

    /// Every element that was changed, with what is there now; `None` if more than elements was
    /// changed, or too many of them to keep.
    pub fn elements(&self) -> Option<impl Iterator<Item = ChangedElement<'_>>> {
        let elements = self
            .elements
            .iter()
            .map(|((family, set, key), now)| ChangedElement {
                family: *family,
                set,
                key,
                now: now.as_ref(),
            });
        (!self.whole).then_some(elements)
    }

    /// Adds what came later.
    pub fn merge(&mut self, later: ForeignChange) {
        self.whole |= later.whole;
        self.elements.extend(later.elements);
        self.bound();
        for (done, times) in later.done {
            self.note(done, times);
        }
        self.more = self.more.saturating_add(later.more);
    }

    /// Adds what one message says.
    pub fn add(&mut self, reply: Reply<'_>) {
        let a = reply.attributes();
        // The attributes that name an object have the same numbers in all of these messages: the
        // table's is 1; a chain's is 3 where it is the object and 2 where a rule names it.
        let name = |kind| shown(a.text(kind).unwrap_or("?"));
        let kind = reply.kind & 0xff;
        let (added, what) = match kind {
            NFT_MSG_NEWTABLE => (true, What::Table),
            NFT_MSG_DELTABLE | NFT_MSG_DESTROYTABLE => (false, What::Table),
            NFT_MSG_NEWCHAIN => (true, What::Chain(name(NFTA_CHAIN_NAME))),
            NFT_MSG_DELCHAIN | NFT_MSG_DESTROYCHAIN => (false, What::Chain(name(NFTA_CHAIN_NAME))),
            NFT_MSG_NEWRULE => (true, What::RuleOf(name(NFTA_RULE_CHAIN))),
            NFT_MSG_DELRULE | NFT_MSG_DESTROYRULE => (false, What::RuleOf(name(NFTA_RULE_CHAIN))),
            NFT_MSG_NEWSET => (true, What::Set(name(NFTA_SET_NAME))),
            NFT_MSG_DELSET | NFT_MSG_DESTROYSET => (false, What::Set(name(NFTA_SET_NAME))),
            NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM | NFT_MSG_DESTROYSETELEM => {
                let added = kind == NFT_MSG_NEWSETELEM;
                let family = reply.payload.first().copied().unwrap_or(0);
                let times = self.book_elements(family, a, added);
                let set = name(NFTA_SET_ELEM_LIST_SET);
                let what = What::ElementOf(set);
                self.note(Done { added, what }, times);
                return;
            }
            NFT_MSG_NEWOBJ | NFT_MSG_NEWFLOWTABLE => (true, What::Other),
            _ => (false, What::Other),
        };
        self.whole = true;
        self.note(Done { added, what }, 1);
    }

    /// How many elements the message tells of.
    fn book_elements(&mut self, family: u8, a: Attributes<'_>, added: bool) -> u32 {
        let mut times = 0;
        let set = a.text(NFTA_SET_ELEM_LIST_SET);
        for element in decode::elements(a) {
            times += 1;
            if self.whole {
                continue;
            }
            match set {
                Some(set) => {
                    let key = (family, set.to_owned(), element.key.clone());
                    self.elements.insert(key, added.then_some(element));
                }
                None => self.whole = true,
            }
        }
        self.bound();
        times
    }

    fn bound(&mut self) {
        self.whole |= self.elements.len() > ELEMENTS_MAX;
        if self.whole {
            self.elements.clear();
        }
    }

    fn note(&mut self, done: Done, times: u32) {
        if let Some((_, known)) = self.done.iter_mut().find(|(known, _)| *known == done) {
            *known = known.saturating_add(times);
        } else if self.done.len() < NAMED_MAX || done.what == What::Table {
            self.done.push((done, times));
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// A name in words of ours, bounded and escaped.
fn shown(name: &str) -> String {
    name.escape_debug().take(NAME_MAX).collect()
}

impl fmt::Display for ForeignChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With the table goes all that is in it; nobody needs to read that.
        let table = |(done, _): &&(Done, u32)| done.what == What::Table;
        let whole: Vec<_> = self.done.iter().filter(table).collect();
        let all = whole.is_empty();
        let named = if all {
            self.done.iter().collect()
        } else {
            whole
        };
        for (place, (done, times)) in named.into_iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            match (&done.what, times) {
                (What::Table, _) => f.write_str("the table was")?,
                (What::Chain(name), _) => write!(f, "chain {name} was")?,
                (What::RuleOf(chain), 1) => write!(f, "a rule of chain {chain} was")?,
                (What::RuleOf(chain), times) => write!(f, "{times} rules of chain {chain} were")?,
                (What::Set(name), _) => write!(f, "set {name} was")?,
                (What::ElementOf(set), 1) => write!(f, "an element of set {set} was")?,
                (What::ElementOf(set), times) => write!(f, "{times} elements of set {set} were")?,
                (What::Other, 1) => f.write_str("something else was")?,
                (What::Other, times) => write!(f, "{times} other things were")?,
            }
            f.write_str(if done.added { " added" } else { " deleted" })?;
        }
        match self.more {
            more if all && more > 0 => write!(f, ", and {more} more"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encode, message::Replies, nla::Writer};

    fn reply(kind: u16, fill: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        fill(&mut w);
        let body = w.finish().unwrap();
        let mut bytes = (20 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend((NFNL_SUBSYS_NFTABLES << 8 | kind).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0; 2]);
        bytes.extend([NFPROTO_INET, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    fn elements(kind: u16, set: &str, elements: &[Element]) -> Vec<u8> {
        reply(kind, |w| {
            w.text(NFTA_SET_ELEM_LIST_TABLE, "t")
                .text(NFTA_SET_ELEM_LIST_SET, set);
            w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                for element in elements {
                    encode::write_element(w, encode::Change::Add, element);
                }
            });
        })
    }

    fn change(messages: &[Vec<u8>]) -> ForeignChange {
        let mut change = ForeignChange::default();
        let bytes = messages.concat();
        Replies(&bytes).for_each(|reply| change.add(reply));
        change
    }

    #[test]
    fn each_element_is_told_with_what_is_there_now() {
        let one = Element::key(vec![1]);
        let two = Element::key(vec![2]);
        let messages = [
            elements(NFT_MSG_DELSETELEM, "s", &[one.clone(), two.clone()]),
            elements(NFT_MSG_NEWSETELEM, "s", std::slice::from_ref(&two)),
        ];
        let change = change(&messages);
        let told: Vec<_> = change.elements().unwrap().collect();
        let of = |key, now| ChangedElement {
            family: NFPROTO_INET,
            set: "s",
            key,
            now,
        };
        assert_eq!(told, [of(&[1], None), of(&[2], Some(&two))]);
    }

    #[test]
    fn what_is_said_of_it_is_bounded_and_one_line() {
        let mut all = ForeignChange::default();
        for n in 0..100 {
            let chain = reply(NFT_MSG_NEWCHAIN, |w| {
                w.text(NFTA_CHAIN_TABLE, "t")
                    .text(NFTA_CHAIN_NAME, &format!("a\n{n}{}", "x".repeat(100)));
            });
            all.merge(change(&[chain]));
        }
        let said = all.to_string();
        assert!(said.len() < 400 && !said.contains('\n'), "{said}");
        assert!(said.ends_with(", and 95 more"), "{said}");
    }

    #[test]
    fn more_elements_than_are_kept_make_it_the_whole_table() {
        let many: Vec<_> = (0..20_000u32)
            .map(|n| Element::key(n.to_ne_bytes().to_vec()))
            .collect();
        let few = many.chunks(500);
        let flushed: Vec<_> = few
            .map(|few| elements(NFT_MSG_DELSETELEM, "s", few))
            .collect();
        let change = change(&flushed);
        assert!(change.elements().is_none() && change.elements.is_empty());
        assert_eq!(change.to_string(), "20000 elements of set s were deleted");
    }
}
