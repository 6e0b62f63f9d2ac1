//! What is done soon after something that bears on it, once for all that comes together.

use quantities::{CgroupId, Time};
use std::time::Duration;
use tokio::sync::oneshot;

/// Who may be judged outside the servers is told to the packet rules together.
const NETWORK_WITHIN: Duration = Duration::from_millis(50);
/// Who comes is listened to at once, or this long after others who came: each order to the sensors
/// names all servers that there are.
const SENSORS_WITHIN: Duration = Duration::from_millis(200);
/// Places that were shown as not covered and are held now are looked at together.
const SURVEY_WITHIN: Duration = Duration::from_millis(500);
/// People move between groups seldom, and servers that come are news of their own.
const HUB_EVERY: Duration = Duration::from_secs(60);
/// A spawner tells the hub where its server runs only after it has started it; the hub is asked
/// after each of these, the first one long enough for a class of students to arrive together.
const HUB_AFTER_NEWS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(13)];

/// What is to be done soon.
#[derive(Default)]
pub(super) struct Due {
    /// Who is judged outside the server may have changed.
    network: Option<Time>,
    /// Somebody came whom the sensors do not listen to yet.
    sensors: Option<Time>,
    sensors_told: Option<Time>,
    /// What is shown as not covered may be covered by now.
    survey: Option<Time>,
    /// The hub is to be asked.
    pub hub: Polls,
    /// Another tick is configured: the next one is now.
    pub tick: bool,
    /// The state is to be written.
    pub save: bool,
    /// Who waits until nothing is under way with some servers.
    pub at_rest: Vec<(Vec<CgroupId>, oneshot::Sender<()>)>,
}

/// What is due at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DueNow {
    pub network: bool,
    pub sensors: bool,
    pub survey: bool,
    pub hub: bool,
}

impl Due {
    /// Who is judged outside the server may have changed.
    pub fn network(&mut self, now: Time) {
        self.network.get_or_insert(Time(now.0 + NETWORK_WITHIN));
    }

    /// Somebody came whom the sensors do not listen to yet.
    pub fn sensors(&mut self, now: Time) {
        let next = self.sensors_told.map(|told| Time(told.0 + SENSORS_WITHIN));
        self.sensors
            .get_or_insert(next.map_or(now, |next| next.max(now)));
    }

    /// What is shown as not covered may be covered by now.
    pub fn survey(&mut self, now: Time) {
        self.survey.get_or_insert(Time(now.0 + SURVEY_WITHIN));
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Time> {
        [self.network, self.sensors, self.survey, self.hub.at]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is due now, which then counts as done.
    pub fn take(&mut self, now: Time) -> DueNow {
        let due = |at: &mut Option<Time>| at.take_if(|at| *at <= now).is_some();
        let taken = DueNow {
            network: due(&mut self.network),
            sensors: due(&mut self.sensors),
            survey: due(&mut self.survey),
            hub: due(&mut self.hub.at),
        };
        if taken.sensors {
            self.sensors_told = Some(now);
        }
        taken
    }
}

/// When the hub is asked.
pub(super) struct Polls {
    /// The next time; none while it is being asked.
    at: Option<Time>,
    /// How many of those after news are done.
    done: usize,
    /// There was news since.
    news: bool,
}

impl Default for Polls {
    /// As after news: at once.
    fn default() -> Self {
        Polls {
            at: Some(Time(Duration::ZERO)),
            done: 0,
            news: false,
        }
    }
}

impl Polls {
    /// Somebody appeared, or another hub was configured.
    pub fn news(&mut self, now: Time) {
        match (self.at, self.done == HUB_AFTER_NEWS.len()) {
            (Some(at), true) => {
                self.at = Some(at.min(Time(now.0 + HUB_AFTER_NEWS[0])));
                self.done = 1;
            }
            _ => self.news = true,
        }
    }

    /// The hub was asked.
    pub fn asked(&mut self, now: Time) {
        if self.done == HUB_AFTER_NEWS.len() && std::mem::take(&mut self.news) {
            self.done = 0;
        }
        let wait = HUB_AFTER_NEWS.get(self.done).copied();
        self.done = (self.done + 1).min(HUB_AFTER_NEWS.len());
        self.at = Some(Time(now.0 + wait.unwrap_or(HUB_EVERY)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(milliseconds))
    }

    /// When the hub is asked next, in seconds.
    fn next_poll(polls: &mut Polls) -> f64 {
        let at = polls.at.take().expect("it is to be asked");
        at.0.as_secs_f64()
    }

    #[test]
    fn what_comes_together_is_done_once_and_nobody_puts_it_off() {
        let mut due = Due::default();
        assert!(due.take(at(0)).hub);
        due.network(at(1000));
        due.network(at(1049));
        assert_eq!(due.next(), Some(at(1050)));
        assert_eq!(due.take(at(1049)), DueNow::default());
        assert!(due.take(at(1050)).network);
        assert_eq!(due.next(), None);
    }

    #[test]
    fn who_comes_first_is_listened_to_at_once_and_a_crowd_five_times_a_second() {
        let mut due = Due::default();
        due.take(at(0));
        due.sensors(at(1000));
        assert!(due.take(at(1000)).sensors);
        due.sensors(at(1010));
        assert_eq!(due.next(), Some(at(1200)));
        assert!(due.take(at(1200)).sensors);
        due.sensors(at(9000));
        assert_eq!(due.next(), Some(at(9000)));
    }

    #[test]
    fn a_class_that_is_held_now_is_surveyed_once_within_half_a_second() {
        let mut due = Due::default();
        due.take(at(0));
        for millisecond in 1000..1400 {
            due.survey(at(millisecond));
        }
        assert_eq!(due.next(), Some(at(1500)));
        assert!(due.take(at(1500)).survey);
        assert_eq!(due.next(), None);
    }

    #[test]
    fn the_hub_is_asked_soon_after_news_and_else_once_a_minute() {
        let mut polls = Polls::default();
        let mut asked = Vec::new();
        for _ in 0..4 {
            let at = next_poll(&mut polls);
            asked.push(at);
            polls.asked(Time(Duration::from_secs_f64(at)));
        }
        assert_eq!(asked, [0.0, 2.0, 15.0, 75.0]);
        // Those who come while it waits are news, all together; the minute is over at 135 s.
        polls.news(at(100_000));
        polls.news(at(101_000));
        assert_eq!(next_poll(&mut polls), 102.0);
        // And those who come while it is being asked.
        polls.news(at(102_500));
        polls.asked(at(103_000));
        assert_eq!(next_poll(&mut polls), 116.0);
        polls.asked(at(116_000));
        assert_eq!(next_poll(&mut polls), 118.0);
    }
}
