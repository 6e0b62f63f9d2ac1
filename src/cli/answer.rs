//! What every verb does alike: asking the daemon, and saying what came of it.

use super::{Failure, runtime};
use crate::control::{Client, ClientError};
use quantities::Plain;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Connects to the daemon; whether it runs is found when it is asked.
pub(super) async fn connect() -> Result<Client, Failure> {
    Client::open().await.map_err(Failure::new)
}

/// Asks the daemon for something.
pub(super) fn ask<T>(
    request: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    runtime()?.block_on(async {
        let client = connect().await?;
        request(&client).await.map_err(Failure::new)
    })
}

/// Asks the daemon to do something, and says its words on it.
pub(super) fn order(
    request: impl AsyncFnOnce(&Client) -> Result<String, ClientError>,
) -> Result<(), Failure> {
    say(&ask(request)?)
}

/// Says an answer, as JSON or in words.
pub(super) fn show<T: Serialize>(
    answer: &T,
    json: bool,
    in_words: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(answer).map_err(Failure::new)?
    } else {
        in_words(answer)
    };
    say(&text)
}

/// Whose server it is, safe to show: a user has several where they have names.
pub(super) fn whose(user: &str, server: &str) -> String {
    match server {
        "" => Plain(user).to_string(),
        server => format!("{}/{}", Plain(user), Plain(server)),
    }
}

/// Writes text to standard output, with one end of line. A closed pipe (`| head`) is the reader's
/// choice, and no failure.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Where that is closed there is nobody to tell.
pub(super) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
