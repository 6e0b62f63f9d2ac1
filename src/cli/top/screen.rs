//! The terminal: keys in, frames out, and as it was at the end, however that comes.

use super::view::View;
use super::{Failure, read};
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
    Up,
    Down,
    /// The window has another size, or somebody wants to see it anew.
    Draw,
}

/// Shows the view until somebody quits.
pub(super) async fn show(client: &Client, mut view: View, every: Duration) -> Result<(), Failure> {
    let mut ends = Ends::new()?;
    // It restores the terminal on a panic as well.
    let mut terminal = ratatui::try_init().map_err(Failure::new)?;
    let (sender, mut wishes) = mpsc::channel(16);
    // Ends with the program: reading keys cannot be interrupted.
    let keys = std::thread::Builder::new()
        .name("keys".into())
        .spawn(move || listen(&sender));
    let mut result = keys.map(drop).map_err(Failure::new);
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    while result.is_ok() {
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            result = Err(Failure::new(error));
            break;
        }
        tokio::select! {
            _ = tick.tick() => match read(client).await {
                Ok(reading) => view.take(reading),
                Err(failure) => result = Err(failure),
            },
            wish = wishes.recv() => match wish {
                Some(Wish::Sort) => view.sort_by_next(),
                Some(Wish::Up) => view.select(-1),
                Some(Wish::Down) => view.select(1),
                Some(Wish::Draw) => {}
                Some(Wish::End) | None => break,
            },
            () = ends.come() => break,
        }
    }
    ratatui::restore();
    result
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
    match key.code {
        // The terminal is raw, so this is a key and no signal.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        KeyCode::Char('s') => Some(Wish::Sort),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Down),
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
        assert_eq!(pressed(KeyCode::Down, none), Some(Wish::Down));
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Draw));
    }
}
