//! How a hub user's name stands in a unit's name.
//!
//! SystemdSpawner puts the raw name into its template and hands it to `systemd-run --unit`, which
//! writes each byte that a unit name may not have as `\xNN` and `/` as `-` (systemd 252,
//! src/basic/unit-name.c, `do_escape_mangle`). The way back is therefore not always unique; a
//! name is taken only if escaping it again gives the same text.

/// Whether systemd keeps this byte in a unit name.
fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

/// A hub name as `systemd-run` writes it into a unit name.
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'/' => escaped.push('-'),
            byte if is_kept(byte) => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

/// The hub name that stands in a unit name, or why it cannot be told.
///
/// # Errors
/// A sentence fragment on what is wrong, for the line that refuses the unit.
pub fn unescape(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match (byte, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
                    return Err("a backslash in it is part of the name or of an escape");
                };
                bytes.push(high << 4 | low);
                rest = tail;
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    let name = String::from_utf8(bytes).map_err(|_| "its escapes are no UTF-8 text")?;
    if name.contains('\0') {
        return Err("it holds a NUL byte");
    }
    // `\x41` for a plain A was typed by a person, not written by systemd: two names would share
    // one unit.
    if escape(&name) != text {
        return Err("a backslash in it is part of the name or of an escape");
    }
    Ok(name)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_go_there_and_back() {
        for (name, unit) in [
            ("alice", "alice"),
            ("alice@example.org", "alice@example.org"),
            ("a b", "a\\x20b"),
            ("zoë", "zo\\xc3\\xab"),
            ("a-2db", "a-2db"),
            ("$(reboot);", "\\x24\\x28reboot\\x29\\x3b"),
            ("back\\slash", "back\\slash"),
        ] {
            assert_eq!(escape(name), unit);
            assert_eq!(unescape(unit).as_deref(), Ok(name));
        }
    }

    #[test]
    fn ambiguous_or_broken_escapes_are_refused() {
        for unit in ["\\x41", "\\x2d", "\\xff", "\\x00", "\\xzz"] {
            assert!(unescape(unit).is_err(), "{unit}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_comes_back_escapes_to_its_unit(unit in "[a-z\\\\x0-9 é/-]{0,20}") {
            if let Ok(name) = unescape(&unit) {
                proptest::prop_assert_eq!(escape(&name), unit);
            }
        }
    }
}
