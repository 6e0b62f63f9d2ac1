//! What libnftnl makes of what the kernel tells, as our plain data.

use std::io;

use nft::{
    ruleset::{Chain, Data, DataType, Element, Expr, Hook, Rule, Ruleset, Set},
    uapi::*,
};
use nftnl_sys::*;

use crate::{
    messages::{Body, Elements, Message},
    objects::{self as ffi, Attributes, Settable},
    read_expr as expr,
    socket::Netlink,
    write::{named_set, named_table},
};

/// Reads a table whole; `None` if it is not there.
pub fn ruleset(netlink: &mut Netlink, family: u8, table: &str) -> io::Result<Option<Ruleset>> {
    let (netlink, asked) = (netlink, |e: ffi::Refused| io::Error::other(e.to_string()));
    let it = named_table(table).map_err(asked)?;
    let request = Message {
        kind: NFT_MSG_GETTABLE,
        flags: 0,
        family,
        body: Body::Table(&it),
    };
    let found = netlink.ask(&request, NFT_MSG_NEWTABLE, |m, found| {
        found.extend(ffi::Table::parse(m).map(|it| {
            let flags = it.u32(NFTNL_TABLE_FLAGS as u16).unwrap_or(0);
            (flags, comment(it.bytes(NFTNL_TABLE_USERDATA as u16)))
        }));
    });
    let (flags, comment) = match found {
        Ok(found) => match found.into_iter().next() {
            Some(found) => found,
            None => return Ok(None),
        },
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };

    let mut it = ffi::Chain::new();
    it.set_text(NFTNL_CHAIN_TABLE as u16, table)
        .map_err(asked)?;
    let request = Message {
        kind: NFT_MSG_GETCHAIN,
        flags: NLM_F_DUMP,
        family,
        body: Body::Chain(&it),
    };
    let mut chains = netlink.ask(&request, NFT_MSG_NEWCHAIN, |m, found| {
        found.extend(ffi::Chain::parse(m).and_then(|it| chain(&it, table)));
    })?;

    let mut it = ffi::Rule::new();
    it.set_text(NFTNL_RULE_TABLE as u16, table).map_err(asked)?;
    let request = Message {
        kind: NFT_MSG_GETRULE,
        flags: NLM_F_DUMP,
        family,
        body: Body::Rule(&it),
    };
    let rules = netlink.ask(&request, NFT_MSG_NEWRULE, |m, found| {
        found.extend(match ffi::Rule::parse(m) {
            Some(it) => rule(&it, table),
            // Of a rule with one expression that it does not know libnftnl tells nothing at all,
            // not even which chain it is of.
            None => Some((String::new(), Rule::default())),
        });
    })?;
    for (name, rule) in rules {
        match chains
            .iter_mut()
            .find(|chain: &&mut Chain| chain.name == name)
        {
            Some(chain) => chain.rules.push(rule),
            None => return Err(io::Error::other("a rule that libnftnl does not understand")),
        }
    }

    let mut it = ffi::Set::new();
    it.set_text(NFTNL_SET_TABLE as u16, table).map_err(asked)?;
    let request = Message {
        kind: NFT_MSG_GETSET,
        flags: NLM_F_DUMP,
        family,
        body: Body::Set(&it),
    };
    let mut sets = netlink.ask(&request, NFT_MSG_NEWSET, |m, found| {
        found.extend(ffi::Set::parse(m).and_then(|it| set(&it, table)));
    })?;
    for set in sets.iter_mut().filter(|set: &&mut Set| !set.is_dynamic()) {
        set.elements = elements(netlink, family, table, &set.name)?;
    }
    Ok(Some(Ruleset {
        family,
        table: table.to_owned(),
        flags,
        comment,
        chains,
        sets,
    }))
}

fn elements(netlink: &mut Netlink, family: u8, table: &str, set: &str) -> io::Result<Vec<Element>> {
    dump_elements(netlink, family, table, set, |it| {
        Some(Element {
            key: it.bytes(NFTNL_SET_ELEM_KEY as u16)?.to_vec(),
            key_end: it.bytes(NFTNL_SET_ELEM_KEY_END as u16).map(<[u8]>::to_vec),
            interval_end: it.u32(NFTNL_SET_ELEM_FLAGS as u16).unwrap_or(0)
                & NFT_SET_ELEM_INTERVAL_END
                != 0,
            data: match it.u32(NFTNL_SET_ELEM_VERDICT as u16).map(u32::cast_signed) {
                Some(NFT_GOTO) => it
                    .text(NFTNL_SET_ELEM_CHAIN as u16)
                    .map(|chain| Data::Goto(chain.to_owned())),
                Some(code) => Some(Data::Code(code)),
                None => it
                    .bytes(NFTNL_SET_ELEM_DATA as u16)
                    .map(|value| Data::Value(value.to_vec())),
            },
            timeout_ms: it
                .u64(NFTNL_SET_ELEM_EXPIRATION as u16)
                .or(it.u64(NFTNL_SET_ELEM_TIMEOUT as u16))
                .unwrap_or(0),
            comment: comment(it.bytes(NFTNL_SET_ELEM_USERDATA as u16)),
        })
    })
}

fn dump_elements<T>(
    netlink: &mut Netlink,
    family: u8,
    table: &str,
    set: &str,
    read: impl Fn(&ffi::Element) -> Option<T>,
) -> io::Result<Vec<T>> {
    let it = named_set(table, set).map_err(|e| io::Error::other(e.to_string()))?;
    let list = Elements::of(&it);
    let request = Message {
        kind: NFT_MSG_GETSETELEM,
        flags: NLM_F_DUMP,
        family,
        body: Body::Elements(&list),
    };
    netlink.ask(&request, NFT_MSG_NEWSETELEM, |m, found| {
        if let Some(set) = ffi::Set::parse_elements(m) {
            set.each(|element| found.extend(read(element)));
        }
    })
}

fn chain(it: &ffi::Chain, table: &str) -> Option<Chain> {
    if it.text(NFTNL_CHAIN_TABLE as u16)? != table {
        return None;
    }
    let hook = it.u32(NFTNL_CHAIN_HOOKNUM as u16).map(|number| {
        let ours = it.u32(NFTNL_CHAIN_POLICY as u16) == Some(NF_ACCEPT.cast_unsigned())
            && it.kind() == Some("filter");
        Hook {
            number: if ours { number } else { u32::MAX },
            priority: it.u32(NFTNL_CHAIN_PRIO as u16).unwrap_or(0).cast_signed(),
        }
    });
    Some(Chain {
        name: it.text(NFTNL_CHAIN_NAME as u16)?.to_owned(),
        hook,
        device: it.text(NFTNL_CHAIN_DEV as u16).map(str::to_owned),
        rules: Vec::new(),
    })
}

fn rule(it: &ffi::Rule, table: &str) -> Option<(String, Rule)> {
    if it.text(NFTNL_RULE_TABLE as u16)? != table {
        return None;
    }
    let rule = Rule {
        exprs: it.exprs().into_iter().map(expr::read).collect(),
        comment: comment(it.bytes(NFTNL_RULE_USERDATA as u16)),
    };
    Some((it.text(NFTNL_RULE_CHAIN as u16)?.to_owned(), rule))
}

fn set(it: &ffi::Set, table: &str) -> Option<Set> {
    if it.text(NFTNL_SET_TABLE as u16)? != table {
        return None;
    }
    let number = |attribute: u32| it.u32(attribute as u16);
    let flags = number(NFTNL_SET_FLAGS).unwrap_or(0);
    let data = match number(NFTNL_SET_DATA_TYPE) {
        _ if flags & nft::uapi::NFT_SET_MAP == 0 => None,
        Some(NFT_DATA_VERDICT) => Some(DataType::Verdict),
        kind => Some(DataType::Value {
            kind: kind.unwrap_or(0),
            len: number(NFTNL_SET_DATA_LEN).unwrap_or(0),
        }),
    };
    let fields = it.bytes(NFTNL_SET_DESC_CONCAT as u16).unwrap_or_default();
    Some(Set {
        name: it.text(NFTNL_SET_NAME as u16)?.to_owned(),
        flags,
        key_type: number(NFTNL_SET_KEY_TYPE).unwrap_or(0),
        key_len: number(NFTNL_SET_KEY_LEN).unwrap_or(0),
        data,
        fields: fields
            .iter()
            .take_while(|field| **field != 0)
            .map(|field| (*field).into())
            .collect(),
        size: number(NFTNL_SET_DESC_SIZE).unwrap_or(0),
        timeout_ms: it.u64(NFTNL_SET_TIMEOUT as u16).unwrap_or(0),
        counted: it.expr().is_some_and(|e| expr::read(e) == Expr::Counter),
        userdata: it
            .bytes(NFTNL_SET_USERDATA as u16)
            .unwrap_or_default()
            .to_vec(),
        elements: Vec::new(),
    })
}

/// The comment among userdata.
fn comment(userdata: Option<&[u8]>) -> String {
    let mut userdata = userdata.unwrap_or_default();
    while let [kind, length, rest @ ..] = userdata {
        let Some((value, others)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        if *kind == UDATA_COMMENT {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
        userdata = others;
    }
    String::new()
}
