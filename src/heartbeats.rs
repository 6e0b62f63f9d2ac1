//! Whether the daemon's threads live: each beats, and the daemon's loop watches.
//!
//! A thread that panicked or returned is dead; one that did not beat within its limit, and does not rest,
//! is stuck. Either is logged once, shown in `status` and in metrics, and replaced where the thread can
//! be started again. A stuck thread cannot be ended: it is abandoned, and ends by itself once it can, since
//! its next beat says so. Panics unwind (`panic = "unwind"`), so that one thread's fault is seen here and
//! costs that thread alone; a panic in the loop or in its tasks ends the daemon, which systemd starts again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Stuck threads of one name that are left behind at most; then the last one stays.
const MOST_ABANDONED: u32 = 3;
/// A thread that was replaced is not replaced again before this.
const REPLACED_EVERY: Duration = Duration::from_secs(5);
/// An essential thread that has been amiss for so long is beyond repair.
const BEYOND_REPAIR: Duration = Duration::from_secs(60);

/// How a thread is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It beats, or rests.
    Well,
    /// It has not beaten for longer than its limit.
    Stuck,
    /// It panicked with this message, or returned.
    Dead(String),
}

/// What became of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The thread's name.
    pub name: &'static str,
    /// How it is now; well again, where it was not.
    pub state: State,
    /// Another was started in its place.
    pub replaced: bool,
}

/// One thread's beat.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Beat>);

#[derive(Debug)]
struct Beat {
    at: Mutex<Option<Instant>>,
    abandoned: AtomicBool,
    ended: Mutex<Option<String>>,
    /// It was to end.
    done: AtomicBool,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse(Arc::new(Beat {
            at: Mutex::new(Some(Instant::now())),
            abandoned: AtomicBool::new(false),
            ended: Mutex::new(None),
            done: AtomicBool::new(false),
        }))
    }

    /// At work, and well. False where another has taken its place, so that this one is to return.
    pub fn beat(&self) -> bool {
        *lock(&self.0.at) = Some(Instant::now());
        !self.0.abandoned.load(Ordering::Relaxed)
    }

    /// Waits for work from now on, for however long that takes.
    pub fn rest(&self) {
        *lock(&self.0.at) = None;
    }

    /// Returns soon, as it should.
    pub fn done(&self) {
        self.0.done.store(true, Ordering::Relaxed);
    }

    fn state(&self, limit: Duration, now: Instant) -> State {
        if self.0.done.load(Ordering::Relaxed) {
            return State::Well;
        }
        if let Some(why) = &*lock(&self.0.ended) {
            return State::Dead(why.clone());
        }
        match *lock(&self.0.at) {
            Some(at) if now.saturating_duration_since(at) > limit => State::Stuck,
            _ => State::Well,
        }
    }
}

type Body = Arc<dyn Fn(&Pulse) + Send + Sync>;

struct Thread {
    limit: Duration,
    essential: bool,
    /// How it is started again; `None` where it cannot be.
    body: Option<Body>,
    pulse: Pulse,
    state: State,
    amiss_since: Option<Instant>,
    replaced: Option<Instant>,
    abandoned: u32,
}

/// All threads that are watched; cheap to clone.
#[derive(Clone, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<&'static str, Thread>>>);

impl Heartbeats {
    /// Starts a thread that is started again when it is dead or stuck. The daemon is not well without an
    /// `essential` one.
    ///
    /// # Errors
    /// There can be no thread more.
    pub fn keep(
        &self,
        name: &'static str,
        limit: Duration,
        essential: bool,
        body: impl Fn(&Pulse) + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        let body: Body = Arc::new(body);
        let pulse = start(name, &body)?;
        self.add(name, limit, essential, Some(body), pulse);
        Ok(())
    }

    /// Watches a thread or a task that cannot be started again by this.
    pub fn watch(&self, name: &'static str, limit: Duration) -> Pulse {
        let pulse = Pulse::new();
        pulse.rest();
        self.add(name, limit, false, None, pulse.clone());
        pulse
    }

    fn add(
        &self,
        name: &'static str,
        limit: Duration,
        essential: bool,
        body: Option<Body>,
        pulse: Pulse,
    ) {
        let thread = Thread {
            limit,
            essential,
            body,
            pulse,
            state: State::Well,
            amiss_since: None,
            replaced: None,
            abandoned: 0,
        };
        lock(&self.0).insert(name, thread);
    }

    /// Looks at all threads, replaces those that can be, and says what has changed.
    pub fn look(&self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for (name, thread) in &mut *lock(&self.0) {
            let state = thread.pulse.state(thread.limit, now);
            match &state {
                State::Well => thread.amiss_since = None,
                _ => drop(thread.amiss_since.get_or_insert(now)),
            }
            let replaced = state != State::Well && thread.replace(name, &state, now);
            if state != thread.state {
                thread.state = state.clone();
                news.push(News {
                    name,
                    state,
                    replaced,
                });
            }
        }
        news
    }

    /// Every thread by name, and how it was when last looked at.
    pub fn states(&self) -> Vec<(&'static str, State)> {
        let threads = lock(&self.0);
        let state = |(name, thread): (&&'static str, &Thread)| (*name, thread.state.clone());
        threads.iter().map(state).collect()
    }

    /// An essential thread that has been dead or stuck for long, although others were started in its place.
    pub fn beyond_repair(&self, now: Instant) -> Option<&'static str> {
        let is_beyond = |thread: &Thread| {
            let since = thread.amiss_since.filter(|_| thread.essential);
            since.is_some_and(|at| now.saturating_duration_since(at) > BEYOND_REPAIR)
        };
        let threads = lock(&self.0);
        let mut beyond = threads.iter().filter(|(_, thread)| is_beyond(thread));
        beyond.next().map(|(name, _)| *name)
    }
}

impl Thread {
    fn replace(&mut self, name: &'static str, state: &State, now: Instant) -> bool {
        let soon = |at| now.saturating_duration_since(at) < REPLACED_EVERY;
        let Some(body) = self
            .body
            .clone()
            .filter(|_| !self.replaced.is_some_and(soon))
        else {
            return false;
        };
        if *state == State::Stuck {
            if self.abandoned >= MOST_ABANDONED {
                return false;
            }
            self.abandoned += 1;
        }
        self.replaced = Some(now);
        self.pulse.0.abandoned.store(true, Ordering::Relaxed);
        match start(name, &body) {
            Ok(pulse) => {
                self.pulse = pulse;
                true
            }
            Err(_) => false,
        }
    }
}

fn start(name: &'static str, body: &Body) -> std::io::Result<Pulse> {
    let pulse = Pulse::new();
    let (theirs, body) = (pulse.clone(), Arc::clone(body));
    let run = move || {
        let ended = match catch_unwind(AssertUnwindSafe(|| body(&theirs))) {
            Ok(()) => "it ended".to_owned(),
            Err(panic) => format!("it panicked: {}", message(&*panic)),
        };
        *lock(&theirs.0.ended) = Some(ended);
    };
    std::thread::Builder::new().name(name.into()).spawn(run)?;
    Ok(pulse)
}

/// A panic's message.
pub fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::{Receiver, channel};

    const LIMIT: Duration = Duration::from_secs(30);

    /// A thread that waits for a word: "panic", "return"; otherwise it beats.
    fn kept(heartbeats: &Heartbeats) -> (std::sync::mpsc::Sender<&'static str>, Arc<AtomicU32>) {
        let (say, words) = channel();
        let words: Arc<Mutex<Receiver<&'static str>>> = Arc::new(Mutex::new(words));
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let body = move |pulse: &Pulse| {
            counted.fetch_add(1, Ordering::SeqCst);
            while pulse.beat() {
                let word = lock(&words).recv();
                match word {
                    Ok("panic") => panic!("seven of nine"),
                    Ok("return") | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        heartbeats.keep("kept", LIMIT, true, body).unwrap();
        (say, starts)
    }

    fn news(heartbeats: &Heartbeats, now: Instant) -> News {
        for _ in 0..10_000 {
            if let Some(news) = heartbeats.look(now).pop() {
                return news;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("nothing has changed");
    }

    #[test]
    fn a_thread_that_panics_or_returns_is_seen_with_its_words_and_replaced() {
        let heartbeats = Heartbeats::default();
        let (say, starts) = kept(&heartbeats);
        let mut now = Instant::now();
        for (word, why) in [
            ("panic", "it panicked: seven of nine"),
            ("return", "it ended"),
        ] {
            say.send(word).unwrap();
            let dead = news(&heartbeats, now);
            assert_eq!((dead.state, dead.replaced), (State::Dead(why.into()), true));
            assert_eq!(news(&heartbeats, now).state, State::Well);
            now += 2 * REPLACED_EVERY;
        }
        say.send("beat").unwrap();
        for _ in 0..10_000 {
            if starts.load(Ordering::SeqCst) == 3 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(heartbeats.states(), [("kept", State::Well)]);
    }

    #[test]
    fn a_stuck_thread_is_replaced_so_often_and_then_the_daemon_is_not_well() {
        let heartbeats = Heartbeats::default();
        let (_say, _) = kept(&heartbeats);
        let mut now = Instant::now();
        assert_eq!(heartbeats.look(now), []);
        for _ in 0..MOST_ABANDONED {
            now += 100 * LIMIT;
            let stuck = heartbeats.look(now);
            assert_eq!(stuck.len(), 1, "{stuck:?}");
            assert_eq!((&stuck[0].state, stuck[0].replaced), (&State::Stuck, true));
            // The new one has beaten by the real clock, which is far behind this one.
            lock(&heartbeats.0).get_mut("kept").unwrap().pulse = {
                let pulse = Pulse::new();
                *lock(&pulse.0.at) = Some(now);
                pulse
            };
            assert_eq!(heartbeats.look(now)[0].state, State::Well);
            assert_eq!(heartbeats.beyond_repair(now), None);
        }
        now += 100 * LIMIT;
        assert!(!heartbeats.look(now)[0].replaced);
        assert_eq!(heartbeats.beyond_repair(now), None);
        now += 2 * BEYOND_REPAIR;
        assert_eq!(heartbeats.look(now), []);
        assert_eq!(heartbeats.beyond_repair(now), Some("kept"));
    }

    #[test]
    fn who_rests_is_well_however_long_and_who_works_for_too_long_is_not() {
        let heartbeats = Heartbeats::default();
        let pulse = heartbeats.watch("file", LIMIT);
        let later = Instant::now() + 100 * LIMIT;
        assert_eq!(heartbeats.look(later), []);
        assert!(pulse.beat());
        assert_eq!(heartbeats.look(later)[0].state, State::Stuck);
        assert_eq!(heartbeats.beyond_repair(later + 100 * LIMIT), None);
        pulse.rest();
        assert_eq!(heartbeats.look(later)[0].state, State::Well);
    }
}
