//! A ruleset, or a change of elements, as messages.

use crate::{
    Error, expr,
    message::Message,
    nla::Writer,
    ruleset::{Chain, Data, DataType, Element, Expr, Rule, Ruleset, Set},
    uapi::*,
};

/// Bytes of elements in a message: their list is one attribute of at most 64 KiB.
const ELEMENTS_MAX: usize = 60_000;
/// The nft program's own bound; what is beyond it is not printed by anyone.
const COMMENT_MAX: usize = 60;
/// The longest host name: with type, length and NUL this is all the kernel keeps
/// (`NFT_USERDATA_MAXLEN`).
const ELEMENT_COMMENT_MAX: usize = 253;

/// Add to a set, or take from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Elements are deleted; each must be there.
    Delete,
    /// Elements are added; those already there with the same value stay.
    Add,
}

/// The messages that put a ruleset in place of whatever table has its name.
///
/// The table is added first so that deleting it cannot fail, and then made anew, all in the
/// caller's one transaction.
///
/// # Errors
/// [`Error::TooLong`] for a rule that does not fit a message.
pub fn replace(ruleset: &Ruleset) -> Result<Vec<Message>, Error> {
    let mut messages = remove(ruleset.family, &ruleset.table)?;
    messages.extend(create(ruleset)?);
    Ok(messages)
}

/// The messages that make a ruleset's table where there is none.
///
/// # Errors
/// [`Error::TooLong`] for a rule that does not fit a message.
pub fn create(ruleset: &Ruleset) -> Result<Vec<Message>, Error> {
    let table = ruleset.table.as_str();
    let mut messages = vec![add_table(table, Some(ruleset.flags), &ruleset.comment)?];
    // Chains and sets before rules, which lead to them and look in them. Elements come last: a rule
    // that looks in a map has the kernel walk all elements that are there (`nf_tables_bind_set`).
    for chain in &ruleset.chains {
        messages.push(add_chain(table, chain)?);
    }
    for (id, set) in (1..).zip(&ruleset.sets) {
        messages.push(add_set(table, set, id)?);
    }
    for chain in &ruleset.chains {
        for (place, rule) in (1..).zip(&chain.rules) {
            messages.push(add_rule(table, &chain.name, place, rule)?);
        }
    }
    for set in &ruleset.sets {
        messages.extend(elements(
            ruleset.family,
            table,
            &set.name,
            Change::Add,
            &set.elements,
        )?);
    }
    Ok(of_family(ruleset.family, messages))
}

/// The messages that take a table away, whether or not it is there.
///
/// # Errors
/// None in practice: a table's name is short.
pub fn remove(family: u8, table: &str) -> Result<Vec<Message>, Error> {
    let mut w = Writer::default();
    w.text(NFTA_TABLE_NAME, table);
    let delete = Message::nft(NFT_MSG_DELTABLE, 0, format!("delete table {table}"), w)?;
    // With flags named, the kernel would take adding what is there for a change of them.
    Ok(of_family(family, vec![add_table(table, None, "")?, delete]))
}

fn of_family(family: u8, messages: Vec<Message>) -> Vec<Message> {
    let to = |message: Message| message.of_family(family);
    messages.into_iter().map(to).collect()
}

fn add_table(table: &str, flags: Option<u32>, comment: &str) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.text(NFTA_TABLE_NAME, table);
    if let Some(flags) = flags {
        w.be32(NFTA_TABLE_FLAGS, flags);
    }
    write_comment(&mut w, NFTA_TABLE_USERDATA, comment, COMMENT_MAX);
    Message::nft(
        NFT_MSG_NEWTABLE,
        NLM_F_CREATE,
        format!("add table {table}"),
        w,
    )
}

fn add_chain(table: &str, chain: &Chain) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, &chain.name);
    if let Some(hook) = chain.hook {
        w.nest(NFTA_CHAIN_HOOK, |w| {
            w.be32(NFTA_HOOK_HOOKNUM, hook.number);
            w.be32(NFTA_HOOK_PRIORITY, hook.priority.cast_unsigned());
            if let Some(device) = &chain.device {
                w.text(NFTA_HOOK_DEV, device);
            }
        });
        w.be32(NFTA_CHAIN_POLICY, NF_ACCEPT.cast_unsigned())
            .text(NFTA_CHAIN_TYPE, "filter");
    }
    Message::nft(
        NFT_MSG_NEWCHAIN,
        NLM_F_CREATE,
        format!("add chain {}", chain.name),
        w,
    )
}

fn add_set(table: &str, set: &Set, id: u32) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.text(NFTA_SET_TABLE, table).text(NFTA_SET_NAME, &set.name);
    w.be32(NFTA_SET_FLAGS, set.flags).be32(NFTA_SET_ID, id);
    w.be32(NFTA_SET_KEY_TYPE, set.key_type)
        .be32(NFTA_SET_KEY_LEN, set.key_len);
    match set.data {
        None => {}
        Some(DataType::Verdict) => {
            w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
        }
        Some(DataType::Value { kind, len }) => {
            w.be32(NFTA_SET_DATA_TYPE, kind)
                .be32(NFTA_SET_DATA_LEN, len);
        }
    }
    if set.size > 0 || !set.fields.is_empty() {
        w.nest(NFTA_SET_DESC, |w| {
            if set.size > 0 {
                w.be32(NFTA_SET_DESC_SIZE, set.size);
            }
            if !set.fields.is_empty() {
                w.nest(NFTA_SET_DESC_CONCAT, |w| {
                    for field in &set.fields {
                        w.nest(NFTA_LIST_ELEM, |w| {
                            w.be32(NFTA_SET_FIELD_LEN, *field);
                        });
                    }
                });
            }
        });
    }
    if set.timeout_ms > 0 {
        w.be64(NFTA_SET_TIMEOUT, set.timeout_ms);
    }
    if set.counted {
        expr::write(&mut w, NFTA_SET_EXPR, &Expr::Counter);
    }
    if !set.userdata.is_empty() {
        w.bytes(NFTA_SET_USERDATA, &set.userdata);
    }
    Message::nft(
        NFT_MSG_NEWSET,
        NLM_F_CREATE,
        format!("add set {}", set.name),
        w,
    )
}

fn add_rule(table: &str, chain: &str, place: usize, rule: &Rule) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
    w.nest(NFTA_RULE_EXPRESSIONS, |w| {
        for expr in &rule.exprs {
            expr::write(w, NFTA_LIST_ELEM, expr);
        }
    });
    write_comment(&mut w, NFTA_RULE_USERDATA, &rule.comment, COMMENT_MAX);
    let says = format!("add rule {place} of chain {chain}");
    Message::nft(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, says, w)
}

/// The message that takes all elements out of a set.
///
/// # Errors
/// [`Error::TooLong`] if the names are.
pub fn flush(family: u8, table: &str, set: &str) -> Result<Message, Error> {
    let mut w = Writer::default();
    w.text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, set);
    let says = format!("take all elements out of set {set}");
    Ok(Message::nft(NFT_MSG_DELSETELEM, 0, says, w)?.of_family(family))
}

/// The messages that add elements to a set or delete them, as many as their size takes.
///
/// # Errors
/// None in practice: an element is short.
pub fn elements(
    family: u8,
    table: &str,
    set: &str,
    change: Change,
    elements: &[Element],
) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    let mut rest = elements;
    while !rest.is_empty() {
        let mut list = Writer::default();
        let mut taken = 0;
        while list.len() < ELEMENTS_MAX
            && let Some(element) = rest.get(taken)
        {
            write_element(&mut list, change, element);
            taken += 1;
        }
        rest = rest.get(taken..).unwrap_or_default();
        let (kind, flags, verb) = match change {
            Change::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE, "add to"),
            Change::Delete => (NFT_MSG_DELSETELEM, 0, "delete from"),
        };
        let says = format!(
            "{verb} set {set} {taken} element{}",
            if taken == 1 { "" } else { "s" }
        );
        let list = match list.finish() {
            Ok(list) => list,
            Err(length) => {
                return Err(Error::TooLong {
                    message: says,
                    length,
                });
            }
        };
        let mut w = Writer::default();
        w.text(NFTA_SET_ELEM_LIST_TABLE, table)
            .text(NFTA_SET_ELEM_LIST_SET, set);
        w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
            w.raw(&list);
        });
        messages.push(Message::nft(kind, flags, says, w)?.of_family(family));
    }
    Ok(messages)
}

pub(crate) fn write_element(w: &mut Writer, change: Change, element: &Element) {
    w.nest(NFTA_LIST_ELEM, |w| {
        if element.interval_end {
            w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        }
        expr::data(w, NFTA_SET_ELEM_KEY, &element.key);
        if let Some(end) = &element.key_end {
            expr::data(w, NFTA_SET_ELEM_KEY_END, end);
        }
        if change == Change::Add {
            if element.timeout_ms > 0 {
                w.be64(NFTA_SET_ELEM_TIMEOUT, element.timeout_ms);
            }
            write_comment(
                w,
                NFTA_SET_ELEM_USERDATA,
                &element.comment,
                ELEMENT_COMMENT_MAX,
            );
        }
        match (change, &element.data) {
            (Change::Delete, _) | (_, None) => {}
            (_, Some(Data::Value(value))) => expr::data(w, NFTA_SET_ELEM_DATA, value),
            (_, Some(Data::Goto(chain))) => {
                expr::verdict(w, NFTA_SET_ELEM_DATA, NFT_GOTO, Some(chain));
            }
            (_, Some(Data::Code(code))) => expr::verdict(w, NFTA_SET_ELEM_DATA, *code, None),
        }
    });
}

/// A comment as the nft program writes and prints it: type, length, text with its NUL. No more of
/// it than `most` characters.
fn write_comment(w: &mut Writer, kind: u16, comment: &str, most: usize) {
    let text: String = comment.chars().take(most).filter(|c| *c != '\0').collect();
    if let Ok(length @ 1..) = u8::try_from(text.len())
        && let Some(length) = length.checked_add(1)
    {
        let mut userdata = vec![UDATA_COMMENT, length];
        userdata.extend_from_slice(text.as_bytes());
        userdata.push(0);
        w.bytes(kind, &userdata);
    }
}
