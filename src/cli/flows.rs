//! `hubwarden flows`.

use super::Failure;
use super::answer::{ask, show, whose};
use super::table::Table;
use crate::control::FlowList;
use quantities::Bytes;
use std::fmt::Write;

pub(super) fn flows(user: Option<&str>, json: bool) -> Result<(), Failure> {
    let list = ask(async |client| client.flows(user.unwrap_or("")).await)?;
    show(&list, json, in_words)
}

fn in_words(list: &FlowList) -> String {
    if list.flows.is_empty() {
        return "No flows.".to_owned();
    }
    let mut table = Table::new(["USER", "PROTO", "LOCAL", "REMOTE", "SENT", "RECEIVED"]);
    for flow in &list.flows {
        let size = |bytes: u64| match flow.counted {
            true => Bytes(bytes).to_string(),
            false => "-".to_owned(),
        };
        table.row([
            whose(&flow.user, &flow.server),
            flow.protocol.clone(),
            flow.local.clone(),
            flow.remote.clone(),
            size(flow.sent),
            size(flow.received),
        ]);
    }
    let mut text = table.text();
    if list.more > 0 {
        let _ = writeln!(text, "… and {} smaller ones.", list.more);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::FlowStatus;

    #[test]
    fn flows_are_a_line_each_and_what_is_not_counted_is_a_dash() {
        let flow = FlowStatus {
            user: "al\u{1b}ice".into(),
            server: String::new(),
            protocol: "tcp".into(),
            local: "10.0.0.1:40000".into(),
            remote: "[2001:db8::1]:443".into(),
            counted: true,
            sent: 900,
            received: 5 << 20,
        };
        let list = FlowList {
            flows: vec![
                flow.clone(),
                FlowStatus {
                    counted: false,
                    ..flow
                },
            ],
            more: 3,
        };
        let text = in_words(&list);
        assert!(!text.contains('\u{1b}'), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("[2001:db8::1]:443  900 B  5 MiB"),
            "{text}"
        );
        assert!(lines[2].ends_with("[2001:db8::1]:443  -      -"), "{text}");
        assert_eq!(lines[3], "… and 3 smaller ones.");
        assert_eq!(in_words(&FlowList::default()), "No flows.");
    }
}
