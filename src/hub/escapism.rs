//! How DockerSpawner writes a hub name into a container's name.
//!
//! It keeps a-z and 0-9, writes every other byte as `-` and two hexadecimal digits, and lower-cases
//! the result (dockerspawner 14.0, `DockerSpawner._escape`, by escapism 1.1). Since no kept byte is
//! a dash, `--` between user and server stands in no escaped name.

/// A hub name as it stands in a container's name.
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => escaped.push(byte.into()),
            // One digit below 16, as `{:X}` gives it there.
            byte => escaped.push_str(&format!("-{byte:x}")),
        }
    }
    escaped
}

/// The hub name that stands in a container's name, where it is the only one that could.
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'-', [high, low, tail @ ..]) => {
                bytes.push(hex(*high)? << 4 | hex(*low)?);
                tail
            }
            _ => {
                bytes.push(byte);
                tail
            }
        };
    }
    let name = String::from_utf8(bytes).ok()?;
    // What does not come back was written by another template or by hand.
    (escape(&name) == text).then_some(name)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_as_dockerspawner_has_them() {
        // python3 -c 'from dockerspawner import DockerSpawner as D; print(D._escape(NAME))'
        for (name, escaped) in [
            ("alice", "alice"),
            ("a-b", "a-2db"),
            ("Alice", "-41lice"),
            ("a--b", "a-2d-2db"),
            ("zoë@x.org", "zo-c3-ab-40x-2eorg"),
        ] {
            assert_eq!(escape(name), escaped);
            assert_eq!(unescape(escaped).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_no_escape_gives_is_no_name() {
        for text in ["a-b", "-61", "a-zz", "-ff", "Alice", "a--b", "a-2", "a_b"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_name_that_comes_back_escapes_to_its_text(text in "[a-f0-9-]{0,12}") {
            if let Some(name) = unescape(&text) {
                proptest::prop_assert_eq!(escape(&name), text);
            }
        }
    }
}
