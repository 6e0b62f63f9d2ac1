//! Past or made-up days under another policy: who would have been throttled, when, for how long.
//!
//! Every server is a [`Server`] that asks for work and is judged by [`policy::step`], the
//! function that the daemon uses. What it may not use at once it uses later, so a throttled
//! server's work is done and takes longer. Servers do not compete here: CPU that one would have
//! used while it was throttled is counted as given back, whether or not another wanted it.

mod generate;
mod outcome;
mod random;
mod recorded;
mod server;

pub use generate::{Kind, Population, Session};
pub use outcome::{Outcome, Spinners, Throttled};
pub use recorded::recorded;
pub use server::{Burst, Held, Server};

use policy::Policy;
use quantities::Time;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Work that is not done this long after its session should have ended is given up.
const GIVE_UP: Duration = Duration::from_secs(14 * 86_400);

/// Runs made-up days; `tick` is the time between two samples.
pub fn synthetic(population: &Population, policy: &Policy, tick: Duration) -> Outcome {
    let mut outcome = Outcome {
        span: Duration::from_secs(86_400) * population.days,
        ..Outcome::default()
    };
    for session in population.sessions() {
        let server = live(&session, policy, tick);
        let who = format!("user {}", session.user);
        outcome.add(
            &who,
            session.start,
            Some(session.kind),
            &server,
            policy,
            tick,
        );
    }
    outcome.finish();
    outcome
}

/// Runs one session to its end.
fn live(session: &Session, policy: &Policy, tick: Duration) -> Server {
    let mut server = Server::new(session.start, policy);
    for burst in &session.bursts {
        server.ask(*burst);
    }
    let last = match session.kind {
        Kind::Honest => Time(session.end.0 + GIVE_UP),
        Kind::Spinner => session.end,
    };
    while server.now() < last && !server.is_stopped() {
        if server.is_done() && server.now() >= session.end {
            break;
        }
        // A server is stopped at any time, not only on a tick.
        let ends = if server.is_done() { session.end } else { last };
        server.advance(server.next_look(tick).min(ends), policy);
    }
    server
}
