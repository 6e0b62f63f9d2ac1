//! libnftnl's objects with their owners.
//!
//! libnftnl copies what it is given into fixed buffers without looking at the length, ends the process
//! (`exit(1)`) where a length is not the one it expects, and takes some pointers over as its own. So
//! nothing is passed on here whose length was not checked, and nothing is read but with its length.

use std::{
    ffi::{CStr, CString, c_void},
    marker::PhantomData,
    ptr::NonNull,
};

use nftnl_sys as sys;

/// `NFT_DATA_VALUE_MAXLEN`: what keys and data are copied into without a look.
const VALUE_MAX: usize = 64;
/// `NFT_USERDATA_MAXLEN`.
const USERDATA_MAX: usize = 256;
/// Names of tables, chains, sets (`NFT_NAME_MAXLEN`), prefixes of the log (`NF_LOG_PREFIXLEN`).
const TEXT_MAX: usize = 255;

/// What libnftnl would not bear.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    #[error("{0} bytes are too many for attribute {1}")]
    Length(usize, u16),
    #[error("a NUL in a name")]
    Nul,
    #[error("libnftnl does not know the expression {0:?}")]
    Unknown(CString),
    #[error("libnftnl did not take attribute {0}")]
    Attribute(u16),
}

macro_rules! object {
    ($name:ident, $raw:ident, $alloc:ident, $free:ident, $set:ident, $get:ident, $is_set:ident) => {
        /// One of libnftnl's objects, freed when it is dropped.
        pub struct $name(pub NonNull<sys::$raw>);

        impl $name {
            pub fn new() -> Self {
                // SAFETY: it takes no arguments and gives a new object or null.
                let raw = unsafe { sys::$alloc() };
                // Out of memory for some bytes: as the standard library does.
                Self(NonNull::new(raw).unwrap_or_else(|| std::process::abort()))
            }

            fn set(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused> {
                // SAFETY: the object is ours alone and alive; the value is copied, and no longer than
                // what it is copied into: the methods of `Settable` see to that.
                let done = unsafe {
                    sys::$set(
                        self.0.as_ptr(),
                        attribute,
                        value.as_ptr().cast(),
                        value.len() as u32,
                    )
                };
                // Some of these give nothing back but 0.
                if done < 0 {
                    Err(Refused::Attribute(attribute))
                } else {
                    Ok(self)
                }
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by `new`, and nobody else's.
                unsafe { sys::$free(self.0.as_ptr()) }
            }
        }

        impl Attributes for $name {
            fn bytes(&self, attribute: u16) -> Option<&[u8]> {
                let mut length = 0;
                // SAFETY: the object is alive and not written to while `self` is borrowed; where the
                // attribute is set, it gives a pointer into the object and its length.
                unsafe {
                    if !sys::$is_set(self.0.as_ptr(), attribute) {
                        return None;
                    }
                    slice(sys::$get(self.0.as_ptr(), attribute, &mut length), length)
                }
            }
        }

        impl Settable for $name {
            fn put(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused> {
                self.set(attribute, value)
            }
        }
    };
}

/// Bytes of libnftnl's.
///
/// # Safety
/// A pointer that is not null points to `length` bytes that live for `'a`.
unsafe fn slice<'a>(data: *const c_void, length: u32) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), length as usize) })
}

/// Reading an object's attributes.
pub trait Attributes {
    /// The attribute's bytes, if it is set.
    fn bytes(&self, attribute: u16) -> Option<&[u8]>;

    fn u8(&self, attribute: u16) -> Option<u8> {
        Some(*self.bytes(attribute)?.first()?)
    }

    fn u16(&self, attribute: u16) -> Option<u16> {
        Some(u16::from_ne_bytes(self.bytes(attribute)?.try_into().ok()?))
    }

    fn u32(&self, attribute: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes(attribute)?.try_into().ok()?))
    }

    fn u64(&self, attribute: u16) -> Option<u64> {
        Some(u64::from_ne_bytes(self.bytes(attribute)?.try_into().ok()?))
    }

    fn text(&self, attribute: u16) -> Option<&str> {
        let text = self.bytes(attribute)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }
}

/// Writing an object's attributes: lengths are looked at here.
pub trait Settable: Sized {
    fn put(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused>;

    fn set_u8(&mut self, attribute: u16, value: u8) -> Result<&mut Self, Refused> {
        self.put(attribute, &[value])
    }

    fn set_u16(&mut self, attribute: u16, value: u16) -> Result<&mut Self, Refused> {
        self.put(attribute, &value.to_ne_bytes())
    }

    fn set_u32(&mut self, attribute: u16, value: u32) -> Result<&mut Self, Refused> {
        self.put(attribute, &value.to_ne_bytes())
    }

    fn set_u64(&mut self, attribute: u16, value: u64) -> Result<&mut Self, Refused> {
        self.put(attribute, &value.to_ne_bytes())
    }

    fn set_text(&mut self, attribute: u16, value: &str) -> Result<&mut Self, Refused> {
        if value.len() > TEXT_MAX {
            return Err(Refused::Length(value.len(), attribute));
        }
        let value = CString::new(value).map_err(|_| Refused::Nul)?;
        self.put(attribute, value.as_bytes_with_nul())
    }

    fn set_value(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused> {
        if value.len() > VALUE_MAX {
            return Err(Refused::Length(value.len(), attribute));
        }
        self.put(attribute, value)
    }

    fn set_userdata(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused> {
        if value.len() > USERDATA_MAX {
            return Err(Refused::Length(value.len(), attribute));
        }
        self.put(attribute, value)
    }
}

object!(
    Table,
    nftnl_table,
    nftnl_table_alloc,
    nftnl_table_free,
    nftnl_table_set_data,
    nftnl_table_get_data,
    nftnl_table_is_set
);
object!(
    Chain,
    nftnl_chain,
    nftnl_chain_alloc,
    nftnl_chain_free,
    nftnl_chain_set_data,
    nftnl_chain_get_data,
    nftnl_chain_is_set
);
object!(
    Rule,
    nftnl_rule,
    nftnl_rule_alloc,
    nftnl_rule_free,
    nftnl_rule_set_data,
    nftnl_rule_get_data,
    nftnl_rule_is_set
);
object!(
    Set,
    nftnl_set,
    nftnl_set_alloc,
    nftnl_set_free,
    nftnl_set_set_data,
    nftnl_set_get_data,
    nftnl_set_is_set
);
object!(
    Element,
    nftnl_set_elem,
    nftnl_set_elem_alloc,
    nftnl_set_elem_free,
    nftnl_set_elem_set,
    nftnl_set_elem_get,
    nftnl_set_elem_is_set
);

/// An expression that nothing has yet.
pub struct Expr(NonNull<sys::nftnl_expr>);

impl Expr {
    pub fn new(name: &CStr) -> Result<Self, Refused> {
        // SAFETY: the name ends with a NUL and is only read.
        let raw = unsafe { sys::nftnl_expr_alloc(name.as_ptr()) };
        NonNull::new(raw)
            .map(Self)
            .ok_or_else(|| Refused::Unknown(name.to_owned()))
    }

    fn set(&mut self, attribute: u32, value: *const c_void, length: usize) -> Result<(), Refused> {
        // SAFETY: the expression is ours alone; the callers below promise the rest.
        let done =
            unsafe { sys::nftnl_expr_set(self.0.as_ptr(), attribute as u16, value, length as u32) };
        if done < 0 {
            Err(Refused::Attribute(attribute as u16))
        } else {
            Ok(())
        }
    }

    /// The information of an iptables target, which libnftnl does not copy but keeps, and frees.
    pub fn target_info(&mut self, info: &[u8]) -> Result<&mut Self, Refused> {
        // SAFETY: `malloc` gives room for as many bytes as are copied there, or null.
        let kept = unsafe {
            let kept = nix::libc::malloc(info.len());
            if kept.is_null() {
                std::process::abort();
            }
            kept.copy_from_nonoverlapping(info.as_ptr().cast(), info.len());
            kept
        };
        self.set(sys::NFTNL_EXPR_TG_INFO, kept, info.len())?;
        Ok(self)
    }

    /// The expression that a set's elements get a copy of.
    pub fn dynset_expr(&mut self, inner: Expr) -> Result<&mut Self, Refused> {
        self.set(sys::NFTNL_EXPR_DYNSET_EXPR, inner.into_raw().cast(), 0)?;
        Ok(self)
    }

    fn into_raw(self) -> *mut sys::nftnl_expr {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Drop for Expr {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and given to nobody: `into_raw` forgets what it gives away.
        unsafe { sys::nftnl_expr_free(self.0.as_ptr()) }
    }
}

impl Settable for Expr {
    fn put(&mut self, attribute: u16, value: &[u8]) -> Result<&mut Self, Refused> {
        self.set(attribute.into(), value.as_ptr().cast(), value.len())?;
        Ok(self)
    }
}

/// An expression inside a rule, a set, an element or another expression.
#[derive(Clone, Copy)]
pub struct View<'a>(NonNull<sys::nftnl_expr>, PhantomData<&'a ()>);

impl<'a> View<'a> {
    pub fn name(&self) -> &str {
        self.text(sys::NFTNL_EXPR_NAME as u16).unwrap_or_default()
    }

    /// Whether it has an attribute, also one that cannot be read.
    pub fn has(&self, attribute: u32) -> bool {
        // SAFETY: the expression is alive.
        unsafe { sys::nftnl_expr_is_set(self.0.as_ptr(), attribute as u16) }
    }

    /// The expression of a dynset.
    pub fn inner(&self) -> Option<View<'a>> {
        let mut length = 0;
        // SAFETY: the expression is alive for 'a; where this attribute is set it gives a pointer to
        // one that is part of it, and else null.
        let raw = unsafe {
            sys::nftnl_expr_get(
                self.0.as_ptr(),
                sys::NFTNL_EXPR_DYNSET_EXPR as u16,
                &mut length,
            )
        };
        NonNull::new(raw.cast_mut().cast()).map(|raw| View(raw, PhantomData))
    }
}

impl Attributes for View<'_> {
    fn bytes(&self, attribute: u16) -> Option<&[u8]> {
        let mut length = 0;
        // SAFETY: the expression is alive; null where the attribute is not set, else a pointer into
        // the expression and its length. (Never asked for the one attribute that gives no length.)
        unsafe {
            slice(
                sys::nftnl_expr_get(self.0.as_ptr(), attribute, &mut length),
                length,
            )
        }
    }
}

impl Chain {
    /// The type of a base chain. libnftnl says that all of these are four bytes long (`chain.c`), so
    /// that `bytes` would give "filt".
    pub fn kind(&self) -> Option<&str> {
        // SAFETY: the chain is alive; null where there is none, else text that is part of the chain.
        unsafe {
            let text = sys::nftnl_chain_get_str(self.0.as_ptr(), sys::NFTNL_CHAIN_TYPE as u16);
            (!text.is_null())
                .then(|| CStr::from_ptr(text))?
                .to_str()
                .ok()
        }
    }
}

impl Rule {
    pub fn push(&mut self, expr: Expr) {
        // SAFETY: both are alive, and the rule owns the expression from now on.
        unsafe { sys::nftnl_rule_add_expr(self.0.as_ptr(), expr.into_raw()) }
    }

    /// Its expressions in order.
    pub fn exprs(&self) -> Vec<View<'_>> {
        let mut exprs = Vec::new();
        // SAFETY: the rule is alive and not changed while the iterator is; what it gives are parts of
        // the rule, and null at the end.
        unsafe {
            let iter = sys::nftnl_expr_iter_create(self.0.as_ptr());
            if iter.is_null() {
                std::process::abort();
            }
            while let Some(expr) = NonNull::new(sys::nftnl_expr_iter_next(iter)) {
                exprs.push(View(expr, PhantomData));
            }
            sys::nftnl_expr_iter_destroy(iter);
        }
        exprs
    }
}

impl Set {
    /// The expression that each of its elements has.
    pub fn add_expr(&mut self, expr: Expr) {
        // SAFETY: both are alive, and the set owns the expression from now on.
        unsafe { sys::nftnl_set_add_expr(self.0.as_ptr(), expr.into_raw()) }
    }

    pub fn expr(&self) -> Option<View<'_>> {
        let attribute = sys::NFTNL_SET_EXPR as u16;
        let mut length = 0;
        // SAFETY: as for `bytes`; the pointer is to an expression that is part of the set.
        let raw = unsafe {
            if !sys::nftnl_set_is_set(self.0.as_ptr(), attribute) {
                return None;
            }
            sys::nftnl_set_get_data(self.0.as_ptr(), attribute, &mut length)
        };
        NonNull::new(raw.cast_mut().cast()).map(|raw| View(raw, PhantomData))
    }

    pub fn push(&mut self, element: Element) {
        let raw = element.0.as_ptr();
        std::mem::forget(element);
        // SAFETY: both are alive, and the set owns the element from now on.
        unsafe { sys::nftnl_set_elem_add(self.0.as_ptr(), raw) }
    }

    /// Hands each of its elements to `each`.
    pub fn each(&self, mut each: impl FnMut(&Element)) {
        // SAFETY: the set is alive and not changed while the iterator is; what it gives are parts of
        // the set, which are lent here and not freed.
        unsafe {
            let iter = sys::nftnl_set_elems_iter_create(self.0.as_ptr());
            if iter.is_null() {
                std::process::abort();
            }
            while let Some(raw) = NonNull::new(sys::nftnl_set_elems_iter_next(iter)) {
                let lent = std::mem::ManuallyDrop::new(Element(raw));
                each(&lent);
            }
            sys::nftnl_set_elems_iter_destroy(iter);
        }
    }
}
