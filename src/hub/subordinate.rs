//! The uids that an account may take in a user namespace (subuid(5)).

/// The ranges of an account, by its name or uid, first and last included. Lines that cannot be read are passed
/// over, as `newuidmap` does.
pub fn subordinate_uids(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let is_its = |owner: &str| Some(owner) == name || owner == uid;
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let last = first.saturating_add(count.checked_sub(1)?);
        (fields.next().is_none() && is_its(owner)).then_some((first, last))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_ranges_are_its_own() {
        let text = "alice:100000:65536\n# none\nbob:165536:65536\n1001:300000:1\nalice:x:1\nalice:5:0\n\
                    alice:4294967290:100\nalice:1:2:3\n";
        let of = |name, uid| subordinate_uids(text, name, uid);
        assert_eq!(
            of(Some("alice"), 1001),
            [
                (100_000, 165_535),
                (300_000, 300_000),
                (4_294_967_290, u32::MAX)
            ]
        );
        assert_eq!(of(Some("bob"), 7), [(165_536, 231_071)]);
        assert_eq!(of(None, 8), []);
    }
}
