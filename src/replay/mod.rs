//! Past or made-up days under another policy: who would have been throttled, when, for how long.
//!
//! Every user has a [`Shell`]: servers that ask for work, and the node of the core that the daemon
//! has, which supervises them. So credits are shared by all servers of a user and handed over to the
//! next one, and the baseline is divided among them. What a server may not use at once it uses later,
//! so a throttled server's work is done and takes longer. Servers do not compete here: CPU that one
//! would have used while it was throttled is counted as given back, whether or not another wanted it.

mod generate;
mod outcome;
mod random;
mod recorded;
mod server;
mod shell;
mod skip;

pub use generate::{Kind, Population, Session};
pub use outcome::{Outcome, Spinners, Throttled};
pub use recorded::recorded;
pub use server::{Burst, Held, Server};

use policy::Policy;
use quantities::{CgroupId, Time};
use shell::Shell;
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
    for (user, sessions) in population.users() {
        let user = format!("user {user}");
        for (session, server) in live(&user, &sessions, policy, tick) {
            outcome.add(&user, Some(session.kind), &server, policy, tick);
        }
    }
    outcome.finish();
    outcome
}

/// Runs a user's sessions, which are in the order of their start; each with its server at its end.
fn live<'s>(
    user: &str,
    sessions: &'s [Session],
    policy: &Policy,
    tick: Duration,
) -> Vec<(&'s Session, Server)> {
    let mut shell = Shell::new(user, policy, tick);
    let mut coming = (0..).map(CgroupId).zip(sessions).peekable();
    let mut running: Vec<(CgroupId, &Session)> = Vec::new();
    let mut ended = Vec::new();
    loop {
        let now = shell.now();
        while let Some((id, session)) = coming.next_if(|(_, session)| session.start <= now) {
            shell.begin(id, &session.bursts);
            running.push((id, session));
        }
        shell.look_on_tick();
        running.retain(|(id, session)| {
            let ends = shell.server(*id).map(|server| ends(session, server));
            if ends.is_some_and(|at| at > now) {
                return true;
            }
            ended.extend(shell.end(*id).map(|server| (*session, server)));
            false
        });
        let server = |id: &CgroupId| shell.server(*id);
        let ends = running
            .iter()
            .filter_map(|(id, session)| Some(ends(session, server(id)?)));
        let starts = coming.peek().map(|(_, session)| session.start);
        match ends.chain(starts).min() {
            Some(until) => shell.step(until),
            None => return ended,
        }
    }
}

/// When a session ends, as far as can be told. A server is stopped at any time, not only on a tick.
fn ends(session: &Session, server: &Server) -> Time {
    match session.kind {
        _ if server.is_stopped() => server.now(),
        Kind::Honest if !server.is_done() => Time(session.end.0 + GIVE_UP),
        _ => session.end,
    }
}
