//! Connections at once, and who has to go when there are too many.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::AbortHandle;

/// Connections at once.
pub(super) const AT_ONCE: usize = 64;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// A user of this node, by number.
    User(u32),
    Host(IpAddr),
}

struct Place {
    peer: Peer,
    /// Whether its request has come as a whole.
    asked: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Connections, the oldest first.
#[derive(Default)]
pub(super) struct Places(VecDeque<Place>);

impl Places {
    /// Gives a connection a place; where there is none, another connection ends for it. That is one of
    /// whoever has most, one that has not asked before one that has, the oldest before younger ones.
    pub fn take(&mut self, peer: Peer, asked: Arc<AtomicBool>, task: AbortHandle) {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() >= AT_ONCE
            && let Some(place) = self.least().and_then(|at| self.0.remove(at))
        {
            place.task.abort();
        }
        self.0.push_back(Place { peer, asked, task });
    }

    fn least(&self) -> Option<usize> {
        let mut of_peer: BTreeMap<Peer, usize> = BTreeMap::new();
        for place in &self.0 {
            *of_peer.entry(place.peer).or_default() += 1;
        }
        let rank = |(at, place): &(usize, &Place)| {
            let many = of_peer.get(&place.peer).copied().unwrap_or_default();
            let waits = !place.asked.load(Ordering::Relaxed);
            (many, waits, std::cmp::Reverse(*at))
        };
        let least = self.0.iter().enumerate().max_by_key(rank);
        least.map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(places: &mut Places, peer: Peer, asked: bool) -> tokio::task::JoinHandle<()> {
        let task = tokio::spawn(std::future::pending());
        let handle = task.abort_handle();
        places.take(peer, Arc::new(AtomicBool::new(asked)), handle);
        task
    }

    async fn is_ended(task: tokio::task::JoinHandle<()>) -> bool {
        tokio::task::yield_now().await;
        let ended = task.is_finished();
        task.abort();
        ended
    }

    #[tokio::test]
    async fn who_has_most_connections_makes_room_for_others() {
        let mut places = Places::default();
        let scraper = connection(&mut places, Peer::User(100), false);
        let first = connection(&mut places, Peer::User(1000), true);
        for _ in 0..10 * AT_ONCE {
            connection(&mut places, Peer::User(1000), true);
        }
        assert!(places.0.len() <= AT_ONCE);
        assert!(is_ended(first).await);
        assert!(!is_ended(scraper).await);
    }

    #[tokio::test]
    async fn of_one_peer_who_has_asked_stays_and_who_dawdles_goes() {
        let host = Peer::Host(IpAddr::from([127, 0, 0, 1]));
        let mut places = Places::default();
        let scraper = connection(&mut places, host, true);
        let slow = connection(&mut places, host, false);
        for _ in 0..10 * AT_ONCE {
            connection(&mut places, host, false);
        }
        assert!(is_ended(slow).await);
        assert!(!is_ended(scraper).await);
    }
}
