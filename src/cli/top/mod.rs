//! `hubwarden top`: servers and what runs in them, on a screen that refreshes itself.

mod draw;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use super::answer::{connect, say};
use super::{Failure, runtime};
use crate::config::parse_duration;
use crate::control::{Client, NodeStatus, ServerProcesses, ServerStatus};
use clap::Args;
use std::io::IsTerminal;
use std::time::Duration;
use view::{Order, View};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print once and end, as is done where the output is no terminal
    #[arg(long)]
    once: bool,
    /// Time between two readings
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = pause)]
    every: Duration,
    /// What comes first
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Cpu)]
    sort: Order,
}

fn pause(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    match (Duration::from_millis(500)..=Duration::from_secs(3600)).contains(&time) {
        true => Ok(time),
        false => Err("from 500ms to 1h".to_owned()),
    }
}

/// One reading of everything that is shown.
struct Reading {
    node: NodeStatus,
    servers: Vec<ServerStatus>,
    /// Or why there is none.
    processes: Result<Vec<ServerProcesses>, String>,
}

async fn read(client: &Client) -> Result<Reading, Failure> {
    Ok(Reading {
        node: client.status().await.map_err(Failure::new)?,
        servers: client.servers().await.map_err(Failure::new)?,
        processes: client.processes().await.map_err(|error| error.to_string()),
    })
}

pub(super) fn top(options: &Options) -> Result<(), Failure> {
    let once = options.once || !std::io::stdout().is_terminal();
    runtime()?.block_on(async {
        let client = connect().await?;
        let mut view = View::new(options.sort);
        view.take(read(&client).await?);
        if once {
            return say(&view.text());
        }
        screen::show(client, view, options.every).await
    })
}
