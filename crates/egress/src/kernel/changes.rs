//! Changes as messages, grouped by set.

use nix::errno::Errno;

use crate::{
    Admitted, CgroupId, Error, Policy,
    encode::{self, Change},
    installed::Delta,
    message::Message,
    ruleset::Element,
    sets, table,
    uapi::NFPROTO_INET,
};

/// Whether an error says that the kernel's table is another than remembered, or that a set of it
/// is full.
pub(super) fn is_drift(error: &Error) -> bool {
    matches!(error, Error::Kernel(nft::Error::NoAnswer { .. }))
        || matches!(
            error.errno(),
            Some(Errno::ENOENT | Errno::EEXIST | Errno::EBUSY | Errno::ENFILE)
        )
}

/// A change of servers and slices, as messages.
pub fn messages(delta: &Delta, policy: &Policy) -> Result<Vec<Message>, Error> {
    let of_servers = |servers: &[Admitted]| {
        servers
            .iter()
            .flat_map(|server| sets::elements_of(policy, server))
            .collect::<Vec<_>>()
    };
    let of_slices = |slices: &[CgroupId]| {
        slices
            .iter()
            .map(|slice| (sets::GUARDED.to_owned(), sets::guard(*slice)))
            .collect()
    };
    let mut messages = Vec::new();
    for (change, elements) in [
        (Change::Delete, of_servers(&delta.gone)),
        (Change::Add, of_servers(&delta.come)),
        (Change::Delete, of_slices(&delta.unguarded)),
        (Change::Add, of_slices(&delta.guarded)),
    ] {
        messages.extend(by_set(change, elements)?);
    }
    Ok(messages)
}

/// Elements of sets of the family `inet`.
pub fn by_set(change: Change, elements: Vec<(String, Element)>) -> Result<Vec<Message>, Error> {
    let inet = |(set, element)| (NFPROTO_INET, set, element);
    grouped(change, elements.into_iter().map(inet).collect())
}

/// Elements of sets of either family.
pub(super) fn by_family<'a>(
    change: Change,
    elements: impl Iterator<Item = &'a (u8, String, Element)>,
) -> Result<Vec<Message>, Error> {
    grouped(change, elements.cloned().collect())
}

fn grouped(
    change: Change,
    mut elements: Vec<(u8, String, Element)>,
) -> Result<Vec<Message>, Error> {
    elements.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut messages = Vec::new();
    for group in elements.chunk_by(|a, b| (a.0, &a.1) == (b.0, &b.1)) {
        let list: Vec<_> = group.iter().map(|(.., element)| element.clone()).collect();
        if let Some((family, set, _)) = group.first() {
            messages.extend(encode::elements(*family, table::TABLE, set, change, &list)?);
        }
    }
    Ok(messages)
}
