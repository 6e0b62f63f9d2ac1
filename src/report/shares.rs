//! Shares of what all senders of the node need, and who ran into one.

use super::refused::{outside, whose_outside};
use super::{Kind, Level, LogEntry, Story};
use quantities::{HubUser, Mode};

/// What senders have a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// Addresses that a class reaches by name.
    Addresses,
    /// Questions for names.
    Questions,
    /// Notes of connections that nobody answered.
    Attempts,
}

impl Shared {
    /// All of them.
    pub const ALL: [Shared; 3] = [Shared::Addresses, Shared::Questions, Shared::Attempts];

    /// The word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Shared::Addresses => "addresses",
            Shared::Questions => "questions",
            Shared::Attempts => "attempts",
        }
    }

    /// What happened, with what it means for the sender.
    pub fn in_words(self, count: u64) -> String {
        match self {
            Shared::Addresses => format!(
                "asked for names of more addresses than one sender has at a time (1,024 in each class and \
                 family): {count} that it asked for first are reached again only after its names are asked \
                 for again"
            ),
            Shared::Questions => format!(
                "asks for names faster than one sender may (`questions` of [egress.abuse]; 1,024 may wait for an \
                 answer): {count} were too many. In enforce mode those get no answer, or one that opens nothing"
            ),
            Shared::Attempts => format!(
                "begins connections faster than hubwarden notes them for the detection of scans (768 at \
                 once, 10 a second): {count} were not noted. They are not refused for it"
            ),
        }
    }

    /// The fields of an entry of the journal.
    pub fn fields(self, entry: LogEntry, count: u64) -> LogEntry {
        entry.with("SHARE", self.as_str()).with("OVER", count)
    }
}

impl Story<'_> {
    /// It ran into a share: so much was over.
    pub fn over_share(&self, shared: Shared, count: u64) -> LogEntry {
        let text = format!("{} {}.", self.whose(), shared.in_words(count));
        let entry = self.entry(Kind::ShareReached, Level::Notice, text);
        shared.fields(entry, count)
    }
}

/// The same of what a user runs outside the server, known by its uid alone.
pub fn over_share_outside(
    user: &HubUser,
    uid: u32,
    mode: Mode,
    shared: Shared,
    count: u64,
) -> LogEntry {
    let text = format!("{} {}.", whose_outside(user, uid), shared.in_words(count));
    let entry = outside(Kind::ShareReached, user, uid, mode, text);
    shared.fields(entry, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::story::tests::told;

    #[test]
    fn an_entry_says_whose_share_it_was_and_what_follows() {
        for (shared, says) in [
            (Shared::Addresses, "asked for names of more addresses"),
            (Shared::Questions, "asks for names faster"),
            (Shared::Attempts, "They are not refused for it."),
        ] {
            let entry = told(Mode::Enforce, |story| story.over_share(shared, 7));
            assert!(entry.message.contains(says), "{}", entry.message);
            assert!(entry.message.starts_with("alice's server "));
        }
        let user = HubUser("alice".into());
        let entry = over_share_outside(&user, 1001, Mode::Enforce, Shared::Questions, 7);
        let begins = "what alice runs outside the server, as uid 1001, asks for names";
        assert!(entry.message.starts_with(begins), "{}", entry.message);
    }
}
