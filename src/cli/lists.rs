//! `hubwarden lists`: what is denied whatever a class allows.

use super::{Failure, runtime};
use crate::control::{Client, ClientError};
use crate::egress::lists::{List, ListName, Lists, parse};
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wrong lines that are shown; the rest is counted.
const SHOWN: usize = 20;

/// What to do with the lists.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Take a feed in, in place of any list of that name
    Import {
        /// Names, a hosts file, addresses, CIDR or host:port, one a line
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
            println!("{name} was removed.");
            put_in_force()
        }
    }
}

fn show(lists: &Lists) -> Result<(), Failure> {
    let (lists, troubles) = lists.load();
    println!(
        "{:<20} {:>9} {:>9} {:>9}  {:<10}  FROM",
        "LIST", "NETWORKS", "PORTS", "NAMES", "IMPORTED"
    );
    for list in lists {
        let date = match list.imported {
            0 => "-".to_owned(),
            seconds => date(seconds),
        };
        println!(
            "{:<20} {:>9} {:>9} {:>9}  {date:<10}  {}",
            list.name.as_str(),
            list.entries.networks.len(),
            list.entries.endpoints.len(),
            list.entries.names.len(),
            list.source
        );
    }
    match troubles.first() {
        None => Ok(()),
        Some(trouble) => Err(Failure::new(trouble)),
    }
}

fn import(lists: &Lists, file: &Path, name: ListName) -> Result<(), Failure> {
    let bytes = Lists::read_feed(file).map_err(Failure::input)?;
    let (entries, problems) = parse(&bytes);
    for problem in problems.iter().take(SHOWN) {
        eprintln!("{}: {problem}", file.display());
    }
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        eprintln!("{}: and {more} more lines that are wrong", file.display());
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
        source: file.display().to_string().escape_debug().to_string(),
        imported: now.map_or(0, |now| now.as_secs()),
        entries,
    };
    lists.save(&list).map_err(Failure::new)?;
    println!(
        "{}: {} networks and addresses, {} of them with a port, {} names; {} lines skipped.",
        list.name,
        list.entries.networks.len() + list.entries.endpoints.len(),
        list.entries.endpoints.len(),
        list.entries.names.len(),
        problems.len()
    );
    Ok(())
}

/// Has a running daemon read the lists again.
fn put_in_force() -> Result<(), Failure> {
    runtime()?.block_on(async {
        let Ok(connection) = crate::sd_bus::connect().await else {
            println!("The daemon does not run; it reads the lists when it starts.");
            return Ok(());
        };
        let client = Client::new(&connection).await.map_err(Failure::new)?;
        match client.reload().await {
            Ok(words) => println!("{words}"),
            Err(ClientError::NotRunning) => {
                println!("The daemon does not run; it reads the lists when it starts.");
            }
            Err(error) => return Err(Failure::new(error)),
        }
        Ok(())
    })
}

/// The day of a Unix time, in UTC (Hinnant's `civil_from_days`).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_305_600, "2026-11-22"),
            (4_102_444_799, "2099-12-31"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }
}
