//! What puts right what others did to the table.
//!
//! To read the table back takes long where there are thousands of servers, and for so long the
//! rules would stay wrong. What the notice names is enough to put it right at once: single
//! elements one by one, anything else by the whole table. Reading back comes after.

use nft::{encode::Change, foreign_change::ForeignChange, ruleset::Element, uapi::NFPROTO_INET};

use super::installed::{Installed, Place};

/// Elements to take out of sets, and elements to put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// By set.
    pub changes: Vec<(Change, String, Element)>,
}

impl Patch {
    /// What puts a foreign change right; `None` if only the whole table does.
    pub fn of(change: &ForeignChange, installed: &Installed) -> Option<Self> {
        let mut patch = Patch::default();
        let mut last: Option<(&str, Place<'_>)> = None;
        for changed in change.elements()? {
            // Containers' ports and queues come and go; their tables are small.
            if changed.family != NFPROTO_INET {
                return None;
            }
            let set = changed.set;
            let place = match last {
                Some((name, place)) if name == set => place,
                _ => installed.place(set)?,
            };
            let wanted = place.element(changed.key);
            last = Some((set, place));
            if changed.now == wanted.as_ref() {
                continue;
            }
            let now = changed.now.cloned();
            for (change, element) in [(Change::Delete, now), (Change::Add, wanted)] {
                if let Some(element) = element {
                    patch.changes.push((change, set.to_owned(), element));
                }
            }
        }
        Some(patch)
    }

    /// Whether there is nothing to mend.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::{Admitted, CgroupId, Mode, Policy, message::Replies, ruleset::Data, sets, table};
    use nft::{encode, message::Message, nla::Writer, uapi::*};

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

    fn bytes(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages
            .iter()
            .for_each(|message| message.write(0, &mut bytes));
        bytes
    }

    fn reply(kind: u16, fill: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        fill(&mut w);
        bytes(&[Message::nft(kind, 0, String::new(), w).unwrap()])
    }

    fn elements(change: Change, set: &str, elements: &[Element]) -> Vec<u8> {
        bytes(&encode::elements(NFPROTO_INET, table::TABLE, set, change, elements).unwrap())
    }

    fn foreign(messages: &[Vec<u8>]) -> ForeignChange {
        let mut change = ForeignChange::default();
        let bytes = messages.concat();
        Replies(&bytes).for_each(|reply| change.add(reply));
        change
    }

    fn patch(messages: &[Vec<u8>]) -> Option<Patch> {
        Patch::of(&foreign(messages), &installed())
    }

    fn goto(cgroup: u64, chain: &str) -> Element {
        let to = Data::Goto(chain.to_owned());
        Element::map(cgroup.to_ne_bytes().to_vec(), to)
    }

    #[test]
    fn single_elements_are_mended_by_what_should_be_there() {
        let servers = sets::servers(2);
        let good = goto(10, "class_standard");
        let deleted = elements(Change::Delete, &servers, slice::from_ref(&good));
        let mending = patch(slice::from_ref(&deleted)).unwrap();
        let add = |element: &Element| (Change::Add, servers.clone(), element.clone());
        assert_eq!(mending.changes, [add(&good)]);

        let other = goto(99, "class_exempt");
        let added = elements(Change::Add, &servers, slice::from_ref(&other));
        let mending = patch(&[added]).unwrap();
        let delete = |element: &Element| (Change::Delete, servers.clone(), element.clone());
        assert_eq!(mending.changes, [delete(&other)]);

        let wrong = goto(10, "class_exempt");
        let replaced = elements(Change::Add, &servers, slice::from_ref(&wrong));
        let mending = patch(&[deleted.clone(), replaced]);
        assert_eq!(mending.unwrap().changes, [delete(&wrong), add(&good)]);

        let again = elements(Change::Add, &servers, &[good]);
        let mending = patch(&[deleted, again]);
        assert!(mending.unwrap().is_empty());

        let guard = Element::key(7u64.to_ne_bytes().to_vec());
        let unguarded = elements(Change::Delete, sets::GUARDED, slice::from_ref(&guard));
        let mending = patch(&[unguarded]).unwrap();
        let add = (Change::Add, sets::GUARDED.to_owned(), guard);
        assert_eq!(mending.changes, [add]);
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
            Change::Delete,
            "hub_ports",
            &[Element::key(vec![0x1f, 0x91])],
        );
        let many: Vec<_> = (0..20_000).map(|n| goto(n, "class_standard")).collect();
        let flushed = many.chunks(500);
        let flushed = flushed.flat_map(|few| elements(Change::Delete, &sets::servers(2), few));
        let flushed = flushed.collect();
        for (message, says) in [
            (rule, "a rule of chain pending was added"),
            (table, "the table was deleted"),
            (port, "an element of set hub_ports was deleted"),
            (flushed, "20000 elements of set servers2 were deleted"),
        ] {
            let change = foreign(&[message]);
            assert_eq!(Patch::of(&change, &installed()), None, "{says}");
            assert_eq!(change.to_string(), says);
        }
    }
}
