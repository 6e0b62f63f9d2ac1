//! class → ruleset (plain data) → nft messages.
