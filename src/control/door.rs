//! The doors of the daemon's service: before the system bus, and before the control socket.

use super::budget::{Budgets, Rank, Refusal};
use crate::bus_socket::Door;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};
use zbus::Message;
use zbus::message::{Flags, Type};

/// A grant with its reason is less than 2 kB.
const MOST_BYTES: usize = 64 * 1024;
/// Callers on the bus that are remembered. The bus gives a name once and never again.
const MOST_KNOWN: usize = 4096;
/// Callers that are being looked up, and what each may have sent meanwhile.
const MOST_UNKNOWN: usize = 64;
const MOST_HELD: usize = 4;
/// Questions of one connection to the control socket that wait for their answers.
const MOST_OF_A_PEER: usize = 16;
/// The bus's error for who asks too much.
const LIMITS_EXCEEDED: &str = "org.freedesktop.DBus.Error.LimitsExceeded";

/// Who is at the other end of a connection to the bus, by the bus's word.
#[derive(Debug, Clone)]
pub struct Known {
    /// The connection's user.
    pub uid: u32,
    /// Its groups when it connected.
    pub groups: Vec<u32>,
    /// Whose budget its questions use.
    pub rank: Rank,
}

/// The door before the system bus: everyone may knock, each within a budget.
pub struct BusDoor {
    state: Mutex<State>,
    look_up: mpsc::UnboundedSender<String>,
    refuse: mpsc::Sender<Message>,
    held: tokio::sync::Mutex<mpsc::UnboundedReceiver<Message>>,
    release: mpsc::UnboundedSender<Message>,
}

struct State {
    budgets: Budgets,
    known: HashMap<String, Known>,
    /// In the order in which they came.
    came: VecDeque<String>,
    unknown: BTreeMap<String, Vec<(Message, bool)>>,
    /// Questions without an answer yet: who asked, by sender and serial number.
    in_flight: HashMap<(String, u32), u32>,
}

impl fmt::Debug for BusDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusDoor").finish_non_exhaustive()
    }
}

/// What a door needs others to do.
pub struct Errands {
    /// Names of callers to look up: see [`BusDoor::found`].
    pub look_up: mpsc::UnboundedReceiver<String>,
    /// Refusals to send.
    pub refuse: mpsc::Receiver<Message>,
}

impl BusDoor {
    pub fn new() -> (BusDoor, Errands) {
        let (look_up, look_ups) = mpsc::unbounded_channel();
        let (release, held) = mpsc::unbounded_channel();
        let (refuse, refusals) = mpsc::channel(64);
        let state = State {
            budgets: Budgets::new(Instant::now()),
            known: HashMap::new(),
            came: VecDeque::new(),
            unknown: BTreeMap::new(),
            in_flight: HashMap::new(),
        };
        let door = BusDoor {
            state: Mutex::new(state),
            look_up,
            refuse,
            held: tokio::sync::Mutex::new(held),
            release,
        };
        let errands = Errands {
            look_up: look_ups,
            refuse: refusals,
        };
        (door, errands)
    }

    /// Who a caller is, once a message of its was let in.
    pub fn who(&self, sender: &str) -> Option<Known> {
        self.state().known.get(sender).cloned()
    }

    /// A caller was looked up, or could not be: then what it sent is dropped.
    pub fn found(&self, sender: &str, known: Option<Known>) {
        let mut state = self.state();
        let held = state.unknown.remove(sender).unwrap_or_default();
        let Some(known) = known else { return };
        if state.known.insert(sender.to_owned(), known).is_none() {
            state.came.push_back(sender.to_owned());
        }
        while state.came.len() > MOST_KNOWN {
            if let Some(oldest) = state.came.pop_front() {
                state.known.remove(&oldest);
            }
        }
        drop(state);
        for (message, cut) in held {
            if let Some(message) = self.judge(message, cut) {
                // The receiver lives as long as the door.
                let _ = self.release.send(message);
            }
        }
    }

    /// What is inside is whole between any two statements: a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, message: Message, cut: bool) -> Option<Message> {
        let header = message.header();
        let sender = header.sender()?.to_string();
        let serial = message.primary_header().serial_num().get();
        let mut state = self.state();
        let Some(known) = state.known.get(&sender).cloned() else {
            let full = state.unknown.len() >= MOST_UNKNOWN;
            match state.unknown.get_mut(&sender) {
                Some(held) if held.len() < MOST_HELD => held.push((message.clone(), cut)),
                Some(_) => {}
                None if full => {}
                None => {
                    let held = vec![(message.clone(), cut)];
                    state.unknown.insert(sender.clone(), held);
                    // Without anyone to look up there is no service any more.
                    let _ = self.look_up.send(sender);
                }
            }
            return None;
        };
        let member = header.member().map_or("", |member| member.as_str());
        let waits = !header.primary().flags().contains(Flags::NO_REPLY_EXPECTED);
        if !waits && known.rank == Rank::User {
            // A question without an answer is of no use to anyone.
            return None;
        }
        let taken = state
            .budgets
            .ask(known.uid, known.rank, cost(member), Instant::now());
        let words = match taken {
            Ok(()) if cut => {
                state.budgets.answered(known.uid);
                format!("the message is larger than {MOST_BYTES} bytes")
            }
            Ok(()) => {
                if waits {
                    state.in_flight.insert((sender, serial), known.uid);
                } else {
                    state.budgets.answered(known.uid);
                }
                drop(state);
                return Some(message.clone());
            }
            Err(Refusal::Told) => format!(
                "uid {} asks too much of hubwarden; ask again in a few seconds",
                known.uid
            ),
            Err(Refusal::Silent) => return None,
        };
        drop(state);
        if waits && let Ok(refused) = Message::error(&header, LIMITS_EXCEEDED).build(&(words,)) {
            // Where even refusals pile up, there is nothing to do but to drop them.
            let _ = self.refuse.try_send(refused);
        }
        None
    }
}

/// In tokens. Those that go to a worker or read the kernel's tables cost more.
fn cost(member: &str) -> f64 {
    match member {
        "Flows" | "Processes" => 10.0,
        "Explain" => 2.0,
        _ => 1.0,
    }
}

impl Door for BusDoor {
    const MOST: usize = MOST_BYTES;

    /// Anyone may send signals to anyone on the bus; none is of interest here.
    fn wants(&self, kind: Type) -> bool {
        kind != Type::Signal
    }

    fn lets_in(&self, message: Message, cut: bool) -> Option<Message> {
        match message.message_type() {
            Type::MethodCall => self.judge(message, cut),
            // The bus passes on answers only to what was asked.
            _ => (!cut).then_some(message),
        }
    }

    async fn held(&self) -> Message {
        match self.held.lock().await.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    fn sent(&self, message: &Message) {
        let header = message.header();
        let (Some(serial), Some(to)) = (header.reply_serial(), header.destination()) else {
            return;
        };
        let mut state = self.state();
        if let Some(uid) = state.in_flight.remove(&(to.to_string(), serial.get())) {
            state.budgets.answered(uid);
        }
    }
}

/// The door before one connection to the control socket: whoever is connected may ask, and is not
/// read from while too many of its questions have no answer.
#[derive(Debug)]
pub struct PeerDoor {
    uid: u32,
    waiting: Mutex<usize>,
    answered: Notify,
}

impl PeerDoor {
    pub fn new(uid: u32) -> PeerDoor {
        PeerDoor {
            uid,
            waiting: Mutex::new(0),
            answered: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door for PeerDoor {
    const MOST: usize = MOST_BYTES;

    fn wants(&self, kind: Type) -> bool {
        kind == Type::MethodCall
    }

    /// One that was cut fails for want of its body, which is answer enough.
    fn lets_in(&self, message: Message, _cut: bool) -> Option<Message> {
        let flags = message.primary_header().flags();
        if !flags.contains(Flags::NO_REPLY_EXPECTED) {
            *self.waiting() += 1;
        }
        Some(message)
    }

    async fn room(&self) {
        while *self.waiting() >= MOST_OF_A_PEER {
            self.answered.notified().await;
        }
    }

    fn sent(&self, message: &Message) {
        if message.header().reply_serial().is_some() {
            let mut waiting = self.waiting();
            *waiting = waiting.saturating_sub(1);
            self.answered.notify_one();
        }
    }

    fn peer(&self) -> Option<u32> {
        Some(self.uid)
    }
}
