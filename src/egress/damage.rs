//! What others did to our table, as the kernel told of it, and what mends just that.
//!
//! To read the table back takes long where there are thousands of servers, and for so long the
//! rules would stay wrong. What the notice names is enough to put it right at once: single
//! elements one by one, anything else by the whole table. Reading back comes after.

use std::{collections::BTreeMap, fmt};

use super::{
    decode,
    encode::Change,
    installed::{Installed, Place},
    message::Reply,
    nla::Attributes,
    ruleset::Element,
    uapi::*,
};

/// So many single elements are mended one by one, which is quicker than the whole table: all servers
/// of a large node in each of the sets that they are in. They take some 300 bytes each until then.
const ELEMENTS_MAX: usize = 16_384;
/// Objects that are named to people; names of objects are others' to choose.
const NAMED_MAX: usize = 5;
/// Characters of such a name.
const NAME_MAX: usize = 48;

/// What one or several transactions of others did to our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// It is more than `elements` can tell.
    whole: bool,
    /// By set and key: what is there now.
    elements: BTreeMap<(String, Vec<u8>), Option<Element>>,
    /// What was done, in the order of its first time, and how often.
    done: Vec<(Done, u32)>,
    /// Further objects that are not named.
    more: u32,
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

/// Elements to take out of a set, and elements to put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// By set.
    pub changes: Vec<(Change, String, Element)>,
}

impl Damage {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// The table was deleted.
    #[cfg(test)]
    pub fn of_the_table() -> Damage {
        let mut damage = Damage {
            whole: true,
            ..Damage::default()
        };
        let what = What::Table;
        damage.note(Done { added: false, what }, 1);
        damage
    }

    /// Adds what came later.
    pub fn merge(&mut self, later: Damage) {
        self.whole |= later.whole;
        self.elements.extend(later.elements);
        self.bound();
        for (done, times) in later.done {
            self.note(done, times);
        }
        self.more = self.more.saturating_add(later.more);
    }

    /// Books one message about our table.
    pub(super) fn book(&mut self, reply: Reply<'_>) {
        let a = reply.attributes();
        // Containers' ports and queues come and go; their tables are small.
        let small = [NFPROTO_BRIDGE, NFPROTO_NETDEV];
        self.whole |= reply
            .payload
            .first()
            .is_some_and(|family| small.contains(family));
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
                let times = self.book_elements(a, added);
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
    fn book_elements(&mut self, a: Attributes<'_>, added: bool) -> u32 {
        let mut times = 0;
        let set = a.text(NFTA_SET_ELEM_LIST_SET);
        for element in decode::elements(a) {
            times += 1;
            if self.whole {
                continue;
            }
            match set {
                Some(set) => {
                    let now = added.then(|| element.clone());
                    self.elements.insert((set.to_owned(), element.key), now);
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

    /// What mends it; `None` if only the whole table does.
    pub(super) fn patch(&self, installed: &Installed) -> Option<Patch> {
        if self.whole {
            return None;
        }
        let mut patch = Patch::default();
        let mut last: Option<(&str, Place<'_>)> = None;
        for ((set, key), now) in &self.elements {
            let place = match last {
                Some((name, place)) if name == set => place,
                _ => installed.place(set)?,
            };
            let wanted = place.element(key);
            last = Some((set, place));
            if *now == wanted {
                continue;
            }
            for (change, element) in [(Change::Delete, now.clone()), (Change::Add, wanted)] {
                if let Some(element) = element {
                    patch.changes.push((change, set.clone(), element));
                }
            }
        }
        Some(patch)
    }
}

/// A name in words of ours, bounded and escaped.
fn shown(name: &str) -> String {
    name.escape_debug().take(NAME_MAX).collect()
}

impl fmt::Display for Damage {
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

impl Patch {
    /// Whether there is nothing to mend.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::egress::{
        Admitted, CgroupId, Mode, Policy, message::Replies, nla::Writer, ruleset::Data, sets,
    };

    fn installed() -> Installed {
        let mut installed = Installed::new(&Policy::standard(Mode::Enforce)).unwrap();
        let server = Admitted {
            cgroup: CgroupId(10),
            level: 2,
            class: "standard".parse().unwrap(),
            number: 1,
        };
        let delta = installed.admit(&[server]).unwrap();
        installed.apply(delta);
        installed.apply(installed.guard(&[CgroupId(7)]));
        installed
    }

    fn reply(kind: u16, fill: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        fill(&mut w);
        let body = w.finish().unwrap();
        let mut bytes = (20 + body.len() as u32).to_ne_bytes().to_vec();
        bytes.extend((NFNL_SUBSYS_NFTABLES << 8 | kind).to_ne_bytes());
        bytes.extend([0; 14]);
        bytes.extend(body);
        bytes
    }

    fn elements(kind: u16, set: &str, elements: &[Element]) -> Vec<u8> {
        reply(kind, |w| {
            w.text(NFTA_SET_ELEM_LIST_TABLE, "hubwarden")
                .text(NFTA_SET_ELEM_LIST_SET, set);
            w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                for element in elements {
                    crate::egress::encode::write_element(w, Change::Add, element);
                }
            });
        })
    }

    fn damage(messages: &[Vec<u8>]) -> Damage {
        let mut damage = Damage::default();
        let bytes = messages.concat();
        Replies(&bytes).for_each(|reply| damage.book(reply));
        damage
    }

    fn goto(cgroup: u64, chain: &str) -> Element {
        let to = Data::Goto(chain.to_owned());
        Element::map(cgroup.to_ne_bytes().to_vec(), to)
    }

    #[test]
    fn single_elements_are_mended_by_what_should_be_there() {
        let servers = sets::servers(2);
        let good = goto(10, "class_standard");
        let deleted = elements(NFT_MSG_DELSETELEM, &servers, slice::from_ref(&good));
        let patch = damage(slice::from_ref(&deleted))
            .patch(&installed())
            .unwrap();
        let add = |element: &Element| (Change::Add, servers.clone(), element.clone());
        assert_eq!(patch.changes, [add(&good)]);

        let foreign = goto(99, "class_exempt");
        let added = elements(NFT_MSG_NEWSETELEM, &servers, slice::from_ref(&foreign));
        let patch = damage(&[added]).patch(&installed()).unwrap();
        let delete = |element: &Element| (Change::Delete, servers.clone(), element.clone());
        assert_eq!(patch.changes, [delete(&foreign)]);

        let wrong = goto(10, "class_exempt");
        let replaced = elements(NFT_MSG_NEWSETELEM, &servers, slice::from_ref(&wrong));
        let patch = damage(&[deleted.clone(), replaced]).patch(&installed());
        assert_eq!(patch.unwrap().changes, [delete(&wrong), add(&good)]);

        let again = elements(NFT_MSG_NEWSETELEM, &servers, &[good]);
        let patch = damage(&[deleted, again]).patch(&installed());
        assert!(patch.unwrap().is_empty());

        let guard = Element::key(7u64.to_ne_bytes().to_vec());
        let unguarded = elements(NFT_MSG_DELSETELEM, sets::GUARDED, slice::from_ref(&guard));
        let patch = damage(&[unguarded]).patch(&installed()).unwrap();
        let add = (Change::Add, sets::GUARDED.to_owned(), guard);
        assert_eq!(patch.changes, [add]);
    }

    #[test]
    fn more_than_some_elements_takes_the_whole_table() {
        let rule = reply(NFT_MSG_NEWRULE, |w| {
            w.text(NFTA_RULE_TABLE, "hubwarden")
                .text(NFTA_RULE_CHAIN, "pending");
        });
        let table = reply(NFT_MSG_DELTABLE, |w| {
            w.text(NFTA_TABLE_NAME, "hubwarden");
        });
        let port = elements(
            NFT_MSG_DELSETELEM,
            "hub_ports",
            &[Element::key(vec![0x1f, 0x91])],
        );
        let many: Vec<_> = (0..20_000).map(|n| goto(n, "class_standard")).collect();
        let flushed = many.chunks(500);
        let flushed = flushed.flat_map(|few| elements(NFT_MSG_DELSETELEM, &sets::servers(2), few));
        let flushed = flushed.collect();
        for (message, says) in [
            (rule, "a rule of chain pending was added"),
            (table, "the table was deleted"),
            (port, "an element of set hub_ports was deleted"),
            (flushed, "20000 elements of set servers2 were deleted"),
        ] {
            let damage = damage(&[message]);
            assert_eq!(damage.patch(&installed()), None, "{says}");
            assert_eq!(damage.to_string(), says);
            assert!(damage.elements.len() <= ELEMENTS_MAX);
        }
    }

    #[test]
    fn what_is_said_of_it_is_bounded_and_one_line() {
        let mut all = Damage::default();
        for n in 0..100 {
            let chain = reply(NFT_MSG_NEWCHAIN, |w| {
                w.text(NFTA_CHAIN_TABLE, "hubwarden")
                    .text(NFTA_CHAIN_NAME, &format!("a\n{n}{}", "x".repeat(100)));
            });
            all.merge(damage(&[chain]));
        }
        let said = all.to_string();
        assert!(said.len() < 400 && !said.contains('\n'), "{said}");
        assert!(said.ends_with(", and 95 more"), "{said}");
    }
}
