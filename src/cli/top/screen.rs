//! The terminal: keys in, frames out, and as it was at the end, however that comes.

use super::view::{Step, View};
use super::{Failure, Reading, read};
use crate::cli::answer::connect;
use crate::control::Client;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    End,
    Sort,
    Select(Step),
    /// The window has another size, or somebody wants to see it anew.
    Draw,
}

/// Shows the view until somebody quits. A daemon that is restarted, as by an upgrade, is waited for.
pub(super) async fn show(client: Client, mut view: View, every: Duration) -> Result<(), Failure> {
    let mut ends = Ends::new()?;
    // It restores the terminal on a panic as well.
    let mut terminal = ratatui::try_init().map_err(Failure::new)?;
    let (sender, mut wishes) = mpsc::channel(16);
    // Ends with the program: reading keys cannot be interrupted.
    let keys = std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || listen(&sender));
    let mut result = keys.map(drop).map_err(Failure::new);
    // Beside the keys: an answer may take seconds.
    let mut next = Box::pin(later(client, every));
    while result.is_ok() {
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            result = Err(Failure::new(error));
            break;
        }
        tokio::select! {
            (client, reading) = &mut next => {
                match reading {
                    Ok(reading) => view.take(reading),
                    Err(failure) => view.lost(&failure.message),
                }
                next.set(later(client, every));
            }
            wish = wishes.recv() => match wish {
                Some(Wish::Sort) => view.sort_by_next(),
                Some(Wish::Select(step)) => view.select(step),
                Some(Wish::Draw) => {}
                Some(Wish::End) | None => break,
            },
            () = ends.come() => break,
        }
    }
    ratatui::restore();
    result
}

/// The next reading, after a pause; with whom to ask for the one after.
async fn later(client: Client, pause: Duration) -> (Client, Result<Reading, Failure>) {
    tokio::time::sleep(pause).await;
    match read(&client).await {
        Ok(reading) => (client, Ok(reading)),
        // The bus may be another one now.
        Err(failure) => (connect().await.unwrap_or(client), Err(failure)),
    }
}

fn listen(wishes: &mpsc::Sender<Wish>) {
    while let Ok(event) = event::read() {
        if let Some(wish) = wish(&event)
            && wishes.blocking_send(wish).is_err()
        {
            return;
        }
    }
}

fn wish(event: &Event) -> Option<Wish> {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Some(Wish::Draw),
        _ => return None,
    };
    let lines = |lines| Some(Wish::Select(Step::Lines(lines)));
    match key.code {
        // The terminal is raw, so this is a key and no signal.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        KeyCode::Char('s') => Some(Wish::Sort),
        KeyCode::Up | KeyCode::Char('k') => lines(-1),
        KeyCode::Down | KeyCode::Char('j') => lines(1),
        KeyCode::Home => lines(isize::MIN),
        KeyCode::End => lines(isize::MAX),
        KeyCode::PageUp => Some(Wish::Select(Step::Pages(-1))),
        KeyCode::PageDown => Some(Wish::Select(Step::Pages(1))),
        _ => None,
    }
}

/// Signals that would end us with the terminal as it is.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> Result<Ends, Failure> {
        let hear = |kind| signal(kind).map_err(Failure::new);
        Ok(Ends([
            hear(SignalKind::terminate())?,
            hear(SignalKind::interrupt())?,
            hear(SignalKind::hangup())?,
        ]))
    }

    async fn come(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    #[test]
    fn keys_ask_for_what_the_last_line_says() {
        let pressed = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(pressed(code, none), Some(Wish::End));
        }
        let control = KeyModifiers::CONTROL;
        assert_eq!(pressed(KeyCode::Char('c'), control), Some(Wish::End));
        assert_eq!(pressed(KeyCode::Char('c'), none), None);
        assert_eq!(pressed(KeyCode::Char('s'), none), Some(Wish::Sort));
        for (code, step) in [
            (KeyCode::Down, Step::Lines(1)),
            (KeyCode::Char('k'), Step::Lines(-1)),
            (KeyCode::PageDown, Step::Pages(1)),
            (KeyCode::Home, Step::Lines(isize::MIN)),
        ] {
            assert_eq!(pressed(code, none), Some(Wish::Select(step)));
        }
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Draw));
    }
}
