//! Conditions and actions on the owner of a packet's socket.

use super::super::{
    Person,
    ruleset::{Expr, LookupTo},
    uapi::*,
};
use super::{MARK, MARK_MASK, R0, equals};

/// Whose the open file of its socket is: who made it, whatever became of that process since.
fn uid() -> Expr {
    Expr::Meta {
        key: NFT_META_SKUID,
        to: R0,
    }
}

/// What its socket's owner maps to decides.
pub fn by_uid(map: &str) -> Vec<Expr> {
    let set = map.to_owned();
    vec![
        uid(),
        Expr::Lookup {
            set,
            from: R0,
            to: LookupTo::Verdict,
            invert: false,
        },
    ]
}

/// Load what its socket's owner maps to, if it does.
pub fn number_by_uid(map: &str) -> Vec<Expr> {
    let set = map.to_owned();
    vec![
        uid(),
        Expr::Lookup {
            set,
            from: R0,
            to: LookupTo::Reg(R0),
            invert: false,
        },
    ]
}

/// Mark it with what its socket's owner maps to, if it does.
pub fn mark_by_uid(map: &str) -> Vec<Expr> {
    let mut exprs = number_by_uid(map);
    exprs.push(Expr::MetaSet {
        key: NFT_META_MARK,
        from: R0,
    });
    exprs
}

/// Its socket is root's.
pub fn is_root_s() -> Vec<Expr> {
    vec![uid(), equals(R0, &0u32.to_ne_bytes())]
}

/// Its mark is that of a user outside the server.
pub fn marked_by_uid() -> Vec<Expr> {
    let high = MARK | Person::NUMBER_MIN;
    let mask = MARK_MASK | Person::NUMBER_MIN;
    vec![
        Expr::Meta {
            key: NFT_META_MARK,
            to: R0,
        },
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: mask.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        equals(R0, &high.to_ne_bytes()),
    ]
}
