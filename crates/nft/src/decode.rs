//! What the kernel answers, as plain data. Nothing here fails or panics: what is not
//! understood is absent or [`Expr::Foreign`](super::ruleset::Expr::Foreign), and so differs
//! from what was installed.

use crate::{
    expr,
    nla::Attributes,
    ruleset::{Chain, Data, DataType, Element, Expr, Hook, Rule, Set},
    uapi::*,
};

/// The flags and the comment of a table.
pub fn table(a: Attributes<'_>) -> (u32, String) {
    let flags = a.be32(NFTA_TABLE_FLAGS).unwrap_or(0);
    (flags, comment(a.bytes(NFTA_TABLE_USERDATA)))
}

/// A chain without its rules, if it is of this table.
pub fn chain(a: Attributes<'_>, table: &str) -> Option<Chain> {
    if a.text(NFTA_CHAIN_TABLE)? != table {
        return None;
    }
    let hook = a.get(NFTA_CHAIN_HOOK).map(|hook| {
        let hook = hook.nested();
        // A base chain that does not accept by default, or is of another type, is none of ours:
        // an impossible hook makes it differ.
        let ours = a.be32(NFTA_CHAIN_POLICY) == Some(NF_ACCEPT.cast_unsigned())
            && a.text(NFTA_CHAIN_TYPE) == Some("filter");
        let number = if ours {
            hook.be32(NFTA_HOOK_HOOKNUM)
        } else {
            None
        };
        Hook {
            number: number.unwrap_or(u32::MAX),
            priority: hook.be32(NFTA_HOOK_PRIORITY).unwrap_or(0).cast_signed(),
        }
    });
    Some(Chain {
        name: a.text(NFTA_CHAIN_NAME)?.to_owned(),
        hook,
        device: a.get(NFTA_CHAIN_HOOK).and_then(|hook| {
            let device = hook.nested().text(NFTA_HOOK_DEV)?;
            Some(device.to_owned())
        }),
        rules: Vec::new(),
    })
}

/// A rule and its chain's name, if it is of this table.
pub fn rule<'a>(a: Attributes<'a>, table: &str) -> Option<(&'a str, Rule)> {
    if a.text(NFTA_RULE_TABLE)? != table {
        return None;
    }
    let exprs = a
        .get(NFTA_RULE_EXPRESSIONS)
        .map(|list| list.nested().map(|e| expr::read(e.nested())));
    let rule = Rule {
        exprs: exprs.into_iter().flatten().collect(),
        comment: comment(a.bytes(NFTA_RULE_USERDATA)),
    };
    Some((a.text(NFTA_RULE_CHAIN)?, rule))
}

/// A set without its elements, if it is of this table.
pub fn set(a: Attributes<'_>, table: &str) -> Option<Set> {
    if a.text(NFTA_SET_TABLE)? != table {
        return None;
    }
    let desc = Attributes(a.bytes(NFTA_SET_DESC));
    let fields = Attributes(desc.bytes(NFTA_SET_DESC_CONCAT));
    let flags = a.be32(NFTA_SET_FLAGS).unwrap_or(0);
    let data = match a.be32(NFTA_SET_DATA_TYPE) {
        _ if flags & NFT_SET_MAP == 0 => None,
        Some(NFT_DATA_VERDICT) => Some(DataType::Verdict),
        kind => Some(DataType::Value {
            kind: kind.unwrap_or(0),
            len: a.be32(NFTA_SET_DATA_LEN).unwrap_or(0),
        }),
    };
    Some(Set {
        name: a.text(NFTA_SET_NAME)?.to_owned(),
        flags,
        key_type: a.be32(NFTA_SET_KEY_TYPE).unwrap_or(0),
        key_len: a.be32(NFTA_SET_KEY_LEN).unwrap_or(0),
        data,
        fields: fields
            .filter_map(|field| field.nested().be32(NFTA_SET_FIELD_LEN))
            .collect(),
        size: desc.be32(NFTA_SET_DESC_SIZE).unwrap_or(0),
        timeout_ms: a.be64(NFTA_SET_TIMEOUT).unwrap_or(0),
        counted: a
            .get(NFTA_SET_EXPR)
            .is_some_and(|e| expr::read(e.nested()) == Expr::Counter),
        userdata: a.bytes(NFTA_SET_USERDATA).to_vec(),
        elements: Vec::new(),
    })
}

/// The elements in one message of a dump.
pub fn elements(a: Attributes<'_>) -> impl Iterator<Item = Element> + '_ {
    Attributes(a.bytes(NFTA_SET_ELEM_LIST_ELEMENTS))
        .filter_map(|element| element_of(element.nested()))
}

/// What an element of a set counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The element's key.
    pub key: Vec<u8>,
    /// Packets that matched it.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// What the elements in one message of a dump counted.
pub fn counts(a: Attributes<'_>) -> impl Iterator<Item = Count> + '_ {
    Attributes(a.bytes(NFTA_SET_ELEM_LIST_ELEMENTS)).filter_map(|element| {
        let element = element.nested();
        let key = expr::value(element.get(NFTA_SET_ELEM_KEY)?)?;
        let counter = Attributes(element.bytes(NFTA_SET_ELEM_EXPR));
        if counter.text(NFTA_EXPR_NAME)? != "counter" {
            return None;
        }
        let inside = Attributes(counter.bytes(NFTA_EXPR_DATA));
        Some(Count {
            key,
            packets: inside.be64(NFTA_COUNTER_PACKETS)?,
            bytes: inside.be64(NFTA_COUNTER_BYTES)?,
        })
    })
}

fn element_of(a: Attributes<'_>) -> Option<Element> {
    let data = a
        .get(NFTA_SET_ELEM_DATA)
        .and_then(|data| match expr::read_code(data) {
            Some((NFT_GOTO, Some(chain))) => Some(Data::Goto(chain.to_owned())),
            Some((code, _)) => Some(Data::Code(code)),
            None => expr::value(data).map(Data::Value),
        });
    Some(Element {
        key: expr::value(a.get(NFTA_SET_ELEM_KEY)?)?,
        key_end: a.get(NFTA_SET_ELEM_KEY_END).and_then(expr::value),
        interval_end: a.be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0,
        data,
        timeout_ms: a
            .be64(NFTA_SET_ELEM_EXPIRATION)
            .or(a.be64(NFTA_SET_ELEM_TIMEOUT))
            .unwrap_or(0),
        comment: comment(a.bytes(NFTA_SET_ELEM_USERDATA)),
    })
}

/// The comment among the userdata that [`super::encode`] writes.
fn comment(mut userdata: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let a = Attributes(&bytes);
            let _ = table(a);
            let _ = chain(a, "t");
            let _ = rule(a, "t");
            let _ = set(a, "t");
            let _ = elements(a).count();
            let _ = counts(a).count();
            let _ = comment(&bytes);
        }
    }
}
