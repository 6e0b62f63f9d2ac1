//! `hubwarden flows`.

use super::{Failure, runtime};
use crate::control::{Client, FlowList};
use crate::hub::HubUser;
use std::fmt::Write;

pub(super) fn flows(user: Option<&str>, json: bool) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let connection = crate::sd_bus::connect().await.map_err(Failure::new)?;
        let client = Client::new(&connection).await.map_err(Failure::new)?;
        let list = client
            .flows(user.unwrap_or(""))
            .await
            .map_err(Failure::new)?;
        let text = if json {
            serde_json::to_string_pretty(&list).map_err(Failure::new)?
        } else {
            in_words(&list)
        };
        // A closed pipe (`| head`) is the reader's choice.
        let _ = std::io::Write::write_all(
            &mut std::io::stdout(),
            format!("{}\n", text.trim_end()).as_bytes(),
        );
        Ok(())
    })
}

fn in_words(list: &FlowList) -> String {
    if list.flows.is_empty() {
        return "No flows.".to_owned();
    }
    let mut rows =
        vec![["USER", "PROTO", "LOCAL", "REMOTE", "SENT", "RECEIVED"].map(str::to_owned)];
    for flow in &list.flows {
        let size = |bytes: u64| {
            if flow.counted {
                in_bytes(bytes)
            } else {
                "-".to_owned()
            }
        };
        rows.push([
            HubUser(flow.user.clone()).to_string(),
            flow.protocol.clone(),
            flow.local.clone(),
            flow.remote.clone(),
            size(flow.sent),
            size(flow.received),
        ]);
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let widths = rows.iter().map(|row| row[column].chars().count());
            let width = widths.max().unwrap_or(0);
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if list.more > 0 {
        let _ = writeln!(text, "… and {} smaller ones.", list.more);
    }
    text
}

fn in_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut size = bytes as f64;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{size:.1} {}", UNITS[unit]),
    }
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
            lines[1].ends_with("[2001:db8::1]:443  900 B  5.0 MiB"),
            "{text}"
        );
        assert!(lines[2].ends_with("[2001:db8::1]:443  -      -"), "{text}");
        assert_eq!(lines[3], "… and 3 smaller ones.");
        assert_eq!(in_words(&FlowList::default()), "No flows.");
    }
}
