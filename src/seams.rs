//! What is read from elsewhere, or made of what somebody chose, one function a seam: each takes any
//! bytes at all and panics where something does not hold that should. The fuzzer (`fuzz/`) and the
//! property tests below feed them; in the program they are not there.

/// A configuration: whatever is in the file, each problem has a place in it and can be shown.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Err(problems) = crate::config::Config::parse(&text) else {
        return;
    };
    assert!(!problems.is_empty(), "refused without a reason");
    for problem in problems {
        let line = text.split('\n').nth(problem.line.wrapping_sub(1));
        let line = line.expect("a line of the file");
        assert!(
            (1..=line.chars().count() + 1).contains(&problem.column),
            "{problem}: not in {line:?}"
        );
        let shown = problem
            .message
            .chars()
            .all(|c| !c.is_control() || c == '\n');
        assert!(shown, "{problem:?}: paints on the terminal");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any bytes, so many at most.
    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_has_problems_with_their_places(bytes in bytes(300)) {
            config(&bytes);
        }

        #[test]
        fn the_example_with_a_part_of_it_overwritten_is_read(
            at in any::<prop::sample::Index>(), length in 0usize..40, other in bytes(20),
        ) {
            let mut text = include_bytes!("../config.example.toml").to_vec();
            let at = at.index(text.len());
            text.splice(at..(at + length).min(text.len()), other);
            // What is commented out there counts for more when it is not.
            let text = String::from_utf8_lossy(&text).replace("\n# ", "\n").replace("\n#", "\n");
            config(text.as_bytes());
        }
    }
}
