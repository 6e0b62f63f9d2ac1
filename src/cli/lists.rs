//! `hubwarden lists`: what is denied whatever a class allows.

use super::answer::{complain, say};
use super::table::Table;
use super::{Failure, dates, runtime};
use crate::control::{Client, ClientError};
use clap::{Subcommand, ValueHint};
use egress::lists::{List, ListName, Lists, parse};
use quantities::Plain;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wrong lines that are shown; the rest is counted.
const SHOWN: usize = 20;

/// What to do with the lists.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Take a feed in, in place of any list of that name
    Import {
        /// Names, a hosts file, addresses, CIDR, host:port, dnsmasq, unbound, RPZ or CSV
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// What the list is called in refusals: a-z, 0-9 and '-'
        #[arg(long)]
        name: ListName,
    },
    /// Forget an imported list
    Remove {
        /// Its name
        name: ListName,
    },
}

pub(super) fn lists(order: Option<Order>, state: &Path) -> Result<(), Failure> {
    let lists = Lists::new(state);
    match order {
        None => show(&lists),
        Some(Order::Import { file, name }) => {
            import(&lists, &file, name)?;
            put_in_force()
        }
        Some(Order::Remove { name }) => {
            lists.remove(&name).map_err(Failure::input)?;
            say(&format!("{name} was removed."))?;
            put_in_force()
        }
    }
}

fn show(lists: &Lists) -> Result<(), Failure> {
    let (lists, troubles) = lists.load();
    let mut table = Table::new(["LIST", "NETWORKS", "PORTS", "NAMES", "IMPORTED", "FROM"]);
    for list in lists {
        table.row([
            list.name.to_string(),
            list.entries.networks.len().to_string(),
            list.entries.endpoints.len().to_string(),
            list.entries.names.len().to_string(),
            match list.imported {
                0 => "-".to_owned(),
                seconds => dates::day(seconds),
            },
            Plain(&list.source).to_string(),
        ]);
    }
    say(&table.text())?;
    match troubles.first() {
        None => Ok(()),
        Some(trouble) => Err(Failure::new(trouble)),
    }
}

fn import(lists: &Lists, file: &Path, name: ListName) -> Result<(), Failure> {
    let bytes = Lists::read_feed(file).map_err(Failure::input)?;
    let (entries, problems) = parse(&bytes);
    for problem in problems.iter().take(SHOWN) {
        complain(format_args!("{}: {problem}", file.display()));
    }
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        complain(format_args!(
            "{}: and {more} more lines that are wrong",
            file.display()
        ));
    }
    if entries.is_empty() {
        return Err(Failure::input(format!(
            "{}: no entry in it; nothing was changed",
            file.display()
        )));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let list = List {
        name,
        source: Plain(&file.display().to_string()).to_string(),
        imported: now.map_or(0, |now| now.as_secs()),
        entries,
    };
    lists.save(&list).map_err(Failure::new)?;
    say(&format!(
        "{}: {} networks and addresses, {} of them with a port, {} names; {} lines skipped.",
        list.name,
        list.entries.networks.len() + list.entries.endpoints.len(),
        list.entries.endpoints.len(),
        list.entries.names.len(),
        problems.len()
    ))
}

/// Has a running daemon read the lists again.
fn put_in_force() -> Result<(), Failure> {
    runtime()?.block_on(async {
        // Without a way to it there is no daemon either.
        let reloaded = match Client::open().await {
            Ok(client) => client.reload().await,
            Err(_) => Err(ClientError::NotRunning),
        };
        match reloaded {
            Ok(words) => say(&words),
            Err(ClientError::NotRunning) => {
                say("The daemon does not run; it reads the lists when it starts.")
            }
            Err(error) => Err(Failure::new(error)),
        }
    })
}
