//! Our rulesets and changes of elements as a batch of libnftnl's.

use nft::{
    encode::Change,
    ruleset::{Chain, Data, DataType, Element, Expr, Rule, Ruleset, Set},
    uapi::*,
};
use nftnl::{Batch, FinalizedBatch, MsgType};
use nftnl_sys::*;

use crate::{
    messages::{self, Body, Message},
    objects::{self as ffi, Refused, Settable},
    write_expr as expr,
};

/// A rule of more expressions might not fit a message, whose length nobody in C looks at: the longest
/// expression takes some 400 bytes.
const EXPRS_MAX: usize = 128;
const COMMENT_MAX: usize = 60;
const ELEMENT_COMMENT_MAX: usize = 253;

/// A transaction under way, with the words for each of its messages.
pub struct Transaction {
    batch: Batch,
    says: Vec<String>,
}

impl Transaction {
    pub fn new() -> Self {
        Self {
            batch: Batch::new(),
            says: Vec::new(),
        }
    }

    /// The batch, and the words for its messages in order; the first has the number `first`.
    pub fn finish(self) -> (FinalizedBatch, Vec<String>) {
        (self.batch.finalize(), self.says)
    }

    fn add(&mut self, kind: u16, flags: u16, family: u8, says: String, body: Body<'_>) {
        let message = Message {
            kind,
            flags,
            family,
            body,
        };
        self.batch.add(&message, MsgType::Add);
        self.says.push(says);
    }

    /// Puts a ruleset in place of whatever table has its name.
    pub fn replace(&mut self, ruleset: &Ruleset) -> Result<(), Refused> {
        self.remove(ruleset.family, &ruleset.table)?;
        self.create(ruleset)
    }

    pub fn remove(&mut self, family: u8, table: &str) -> Result<(), Refused> {
        // With flags named, the kernel would take adding what is there for a change of them.
        let it = named_table(table)?;
        self.add(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            family,
            format!("add table {table}"),
            Body::Table(&it),
        );
        self.add(
            NFT_MSG_DELTABLE,
            0,
            family,
            format!("delete table {table}"),
            Body::Table(&it),
        );
        Ok(())
    }

    pub fn create(&mut self, ruleset: &Ruleset) -> Result<(), Refused> {
        let Ruleset { family, table, .. } = ruleset;
        let mut it = named_table(table)?;
        it.set_u32(NFTNL_TABLE_FLAGS as u16, ruleset.flags)?;
        comment(
            &mut it,
            NFTNL_TABLE_USERDATA as u16,
            &ruleset.comment,
            COMMENT_MAX,
        )?;
        self.add(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            *family,
            format!("add table {table}"),
            Body::Table(&it),
        );
        for chain in &ruleset.chains {
            let it = chain_of(table, chain)?;
            let says = format!("add chain {}", chain.name);
            self.add(
                NFT_MSG_NEWCHAIN,
                NLM_F_CREATE,
                *family,
                says,
                Body::Chain(&it),
            );
        }
        for (id, set) in (1..).zip(&ruleset.sets) {
            let it = set_of(table, set, id)?;
            let says = format!("add set {}", set.name);
            self.add(NFT_MSG_NEWSET, NLM_F_CREATE, *family, says, Body::Set(&it));
        }
        for chain in &ruleset.chains {
            for (place, rule) in (1..).zip(&chain.rules) {
                let it = rule_of(table, &chain.name, rule)?;
                let says = format!("add rule {place} of chain {}", chain.name);
                self.add(
                    NFT_MSG_NEWRULE,
                    NLM_F_CREATE | NLM_F_APPEND,
                    *family,
                    says,
                    Body::Rule(&it),
                );
            }
        }
        for set in &ruleset.sets {
            self.elements(*family, table, &set.name, Change::Add, &set.elements)?;
        }
        Ok(())
    }

    pub fn elements(
        &mut self,
        family: u8,
        table: &str,
        set: &str,
        change: Change,
        elements: &[Element],
    ) -> Result<(), Refused> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut it = named_set(table, set)?;
        for element in elements {
            it.push(element_of(change, element)?);
        }
        let (kind, flags, verb) = match change {
            Change::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE, "add to"),
            Change::Delete => (NFT_MSG_DELSETELEM, 0, "delete from"),
        };
        let list = messages::Elements::of(&it);
        while list.more() {
            self.add(
                kind,
                flags,
                family,
                format!("{verb} set {set}"),
                Body::Elements(&list),
            );
        }
        Ok(())
    }
}

pub fn named_table(table: &str) -> Result<ffi::Table, Refused> {
    let mut it = ffi::Table::new();
    it.set_text(NFTNL_TABLE_NAME as u16, table)?;
    Ok(it)
}

pub fn named_set(table: &str, set: &str) -> Result<ffi::Set, Refused> {
    let mut it = ffi::Set::new();
    it.set_text(NFTNL_SET_TABLE as u16, table)?
        .set_text(NFTNL_SET_NAME as u16, set)?;
    Ok(it)
}

fn chain_of(table: &str, chain: &Chain) -> Result<ffi::Chain, Refused> {
    let mut it = ffi::Chain::new();
    it.set_text(NFTNL_CHAIN_TABLE as u16, table)?
        .set_text(NFTNL_CHAIN_NAME as u16, &chain.name)?;
    if let Some(hook) = chain.hook {
        it.set_u32(NFTNL_CHAIN_HOOKNUM as u16, hook.number)?
            .set_u32(NFTNL_CHAIN_PRIO as u16, hook.priority.cast_unsigned())?
            .set_u32(NFTNL_CHAIN_POLICY as u16, NF_ACCEPT.cast_unsigned())?
            .set_text(NFTNL_CHAIN_TYPE as u16, "filter")?;
        if let Some(device) = &chain.device {
            it.set_text(NFTNL_CHAIN_DEV as u16, device)?;
        }
    }
    Ok(it)
}

fn rule_of(table: &str, chain: &str, rule: &Rule) -> Result<ffi::Rule, Refused> {
    if rule.exprs.len() > EXPRS_MAX {
        return Err(Refused::Length(rule.exprs.len(), 0));
    }
    let mut it = ffi::Rule::new();
    it.set_text(NFTNL_RULE_TABLE as u16, table)?
        .set_text(NFTNL_RULE_CHAIN as u16, chain)?;
    comment(
        &mut it,
        NFTNL_RULE_USERDATA as u16,
        &rule.comment,
        COMMENT_MAX,
    )?;
    for one in &rule.exprs {
        it.push(expr::write(one)?);
    }
    Ok(it)
}

fn set_of(table: &str, set: &Set, id: u32) -> Result<ffi::Set, Refused> {
    let mut it = named_set(table, &set.name)?;
    it.set_u32(NFTNL_SET_FLAGS as u16, set.flags)?
        .set_u32(NFTNL_SET_ID as u16, id)?
        .set_u32(NFTNL_SET_KEY_TYPE as u16, set.key_type)?
        .set_u32(NFTNL_SET_KEY_LEN as u16, set.key_len)?;
    match set.data {
        None => {}
        Some(DataType::Verdict) => drop(it.set_u32(NFTNL_SET_DATA_TYPE as u16, NFT_DATA_VERDICT)?),
        Some(DataType::Value { kind, len }) => {
            it.set_u32(NFTNL_SET_DATA_TYPE as u16, kind)?
                .set_u32(NFTNL_SET_DATA_LEN as u16, len)?;
        }
    }
    if set.size > 0 {
        it.set_u32(NFTNL_SET_DESC_SIZE as u16, set.size)?;
    }
    if !set.fields.is_empty() {
        // As many as there are registers, and one that is 0 at the end.
        let mut fields = [0; 16];
        for (place, field) in fields[..15].iter_mut().zip(&set.fields) {
            *place = *field as u8;
        }
        it.set_value(NFTNL_SET_DESC_CONCAT as u16, &fields)?;
    }
    if set.timeout_ms > 0 {
        it.set_u64(NFTNL_SET_TIMEOUT as u16, set.timeout_ms)?;
    }
    if set.counted {
        it.add_expr(expr::write(&Expr::Counter)?);
    }
    if !set.userdata.is_empty() {
        it.set_userdata(NFTNL_SET_USERDATA as u16, &set.userdata)?;
    }
    Ok(it)
}

fn element_of(change: Change, element: &Element) -> Result<ffi::Element, Refused> {
    let mut it = ffi::Element::new();
    if element.interval_end {
        it.set_u32(NFTNL_SET_ELEM_FLAGS as u16, NFT_SET_ELEM_INTERVAL_END)?;
    }
    it.set_value(NFTNL_SET_ELEM_KEY as u16, &element.key)?;
    if let Some(end) = &element.key_end {
        it.set_value(NFTNL_SET_ELEM_KEY_END as u16, end)?;
    }
    if change == Change::Delete {
        return Ok(it);
    }
    if element.timeout_ms > 0 {
        it.set_u64(NFTNL_SET_ELEM_TIMEOUT as u16, element.timeout_ms)?;
    }
    comment(
        &mut it,
        NFTNL_SET_ELEM_USERDATA as u16,
        &element.comment,
        ELEMENT_COMMENT_MAX,
    )?;
    match &element.data {
        None => {}
        Some(Data::Value(value)) => drop(it.set_value(NFTNL_SET_ELEM_DATA as u16, value)?),
        Some(Data::Goto(chain)) => {
            it.set_u32(NFTNL_SET_ELEM_VERDICT as u16, NFT_GOTO.cast_unsigned())?
                .set_text(NFTNL_SET_ELEM_CHAIN as u16, chain)?;
        }
        Some(Data::Code(code)) => {
            it.set_u32(NFTNL_SET_ELEM_VERDICT as u16, code.cast_unsigned())?;
        }
    }
    Ok(it)
}

/// Type, length, text with its NUL.
fn comment(it: &mut impl Settable, attribute: u16, text: &str, most: usize) -> Result<(), Refused> {
    let text: String = text.chars().take(most).filter(|c| *c != '\0').collect();
    if let Ok(length @ 1..) = u8::try_from(text.len())
        && let Some(length) = length.checked_add(1)
    {
        let userdata = [&[UDATA_COMMENT, length], text.as_bytes(), &[0]].concat();
        it.set_userdata(attribute, &userdata)?;
    }
    Ok(())
}
