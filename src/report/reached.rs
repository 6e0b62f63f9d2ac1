//! The sentences of a server's story that are about the network.

use super::refused::{not_logged, refused};
use super::{Kind, Level, LogEntry, Story};
use egress::names::{Asked, DeniedBy};
use egress::{ClassName, Refusal};
use quantities::Mode;

impl Story<'_> {
    /// A connection was refused.
    pub fn refused(&self, refusal: &Refusal) -> LogEntry {
        let (level, kind) = (Level::Notice, Kind::EgressRefused);
        refused(refusal, &self.whose(), self.mode, |message| {
            self.entry(kind, level, message)
        })
    }

    /// So many packets were refused, and nothing else was logged of them.
    pub fn not_logged(&self, packets: u64) -> LogEntry {
        let (level, kind) = (Level::Notice, Kind::EgressRefused);
        not_logged(packets, &self.whose(), self.mode, |message| {
            self.entry(kind, level, message)
        })
    }

    /// Another class judges its packets from now on.
    pub fn class_changed(&self, before: &ClassName, now: &ClassName, why: &str) -> LogEntry {
        let message = match self.mode {
            Mode::Enforce => format!(
                "{} has egress class {now} now, and not {before}: {why}.",
                self.whose()
            ),
            Mode::Observe => format!(
                "{} would have egress class {now} now, and not {before} (observe mode: nothing \
                 is refused): {why}.",
                self.whose()
            ),
        };
        self.entry(Kind::ClassChanged, Level::Notice, message)
            .with("EGRESS_CLASS", now)
            .with("EGRESS_CLASS_BEFORE", before)
            .with("REASON", why)
    }

    /// It asked for a name that it may not have.
    pub fn asked(&self, asked: &Asked) -> LogEntry {
        let name = &asked.name;
        let why = match &asked.by {
            DeniedBy::List(list) => format!("deny list {list} has it"),
            DeniedBy::ListPort(list, port) => format!("deny list {list} has it on port {port}"),
            DeniedBy::Class(class) => format!("egress class {class} denies it"),
            DeniedBy::Resolver(class) => format!(
                "it is a resolver's that answers over HTTPS, and egress class {class} reaches \
                 names"
            ),
        };
        let message = match (asked.refused, self.mode) {
            (true, _) => format!(
                "{} asked for {name} and was told that there is no such name: {why}.",
                self.whose()
            ),
            (false, Mode::Observe) if asked.by.refuses() => format!(
                "{} asked for {name} and would have been told that there is no such name \
                 (observe mode: it was answered): {why}.",
                self.whose()
            ),
            (false, _) => format!("{} asked for {name}: {why}.", self.whose()),
        };
        let entry = self
            .entry(Kind::NameDenied, Level::Notice, message)
            .with("NAME", name)
            .with("REASON", why);
        match &asked.by {
            DeniedBy::List(list) | DeniedBy::ListPort(list, _) => entry.with("EGRESS_LIST", list),
            DeniedBy::Class(class) | DeniedBy::Resolver(class) => entry.with("EGRESS_CLASS", class),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::story::tests::told;
    use egress::RefusedBy;

    #[test]
    fn a_refusal_names_target_and_class() {
        let refusal = Refusal {
            number: Some(1),
            by: RefusedBy::Class("standard".parse().unwrap()),
            uid: Some(1001),
            protocol: 6,
            destination: "192.0.2.7".parse().unwrap(),
            port: Some(22),
        };
        let entry = told(Mode::Enforce, |story| story.refused(&refusal));
        assert_eq!(
            entry.message,
            "alice's server was refused TCP port 22 of 192.0.2.7: egress class standard does not \
             allow it."
        );
        let more = entry.and_not_logged(37);
        assert!(
            more.message
                .ends_with("allow it. 37 more packets before it have no line of their own."),
            "{}",
            more.message
        );
        assert!(more.fields.contains(&("NOT_LOGGED", "37".into())));
        let entry = told(Mode::Observe, |story| story.not_logged(5));
        assert_eq!(
            entry.message,
            "5 packets of alice's server would have been refused without a line for each."
        );
    }

    #[test]
    fn a_refusal_of_a_private_network_says_how_to_open_it() {
        let refusal = Refusal {
            number: Some(1),
            by: RefusedBy::Private("lab".parse().unwrap()),
            uid: Some(1001),
            protocol: 6,
            destination: "10.20.0.7".parse().unwrap(),
            port: Some(443),
        };
        let entry = told(Mode::Observe, |story| story.refused(&refusal));
        assert_eq!(
            entry.message,
            "alice's server would have been refused TCP port 443 of 10.20.0.7 (observe mode: it was \
             let through): it is in a private network, and egress class lab reaches those only that \
             it names; to open it, add it to `networks` of the class."
        );
    }
}
