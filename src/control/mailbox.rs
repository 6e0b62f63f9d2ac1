//! The queues between the service and the daemon's loop: orders wait for no question, and what
//! admins ask waits for nothing that users ask.

use super::Command;
use tokio::sync::mpsc;

/// Commands that wait in one queue; more wait at the sender, within its budget.
const MOST: usize = 16;

/// Where the service puts what is asked.
#[derive(Debug, Clone)]
pub struct Outbox {
    orders: mpsc::Sender<Command>,
    admins: mpsc::Sender<Command>,
    users: mpsc::Sender<Command>,
}

/// Where the loop takes it.
pub struct Inbox {
    /// To be done.
    pub orders: mpsc::Receiver<Command>,
    /// To be answered.
    pub questions: Questions,
}

/// What is asked, an admin's questions first.
pub struct Questions {
    admins: mpsc::Receiver<Command>,
    users: mpsc::Receiver<Command>,
}

/// The loop has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended;

/// Makes both ends.
pub fn mailbox() -> (Outbox, Inbox) {
    let (order, orders) = mpsc::channel(MOST);
    let (admin, admins) = mpsc::channel(MOST);
    let (user, users) = mpsc::channel(MOST);
    let outbox = Outbox {
        orders: order,
        admins: admin,
        users: user,
    };
    let inbox = Inbox {
        orders,
        questions: Questions { admins, users },
    };
    (outbox, inbox)
}

impl Outbox {
    /// Sends something to be done.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn order(&self, command: Command) -> Result<(), Ended> {
        self.orders.send(command).await.map_err(|_| Ended)
    }

    /// Sends something to be answered.
    ///
    /// # Errors
    /// The loop has ended.
    pub async fn question(&self, admin: bool, command: Command) -> Result<(), Ended> {
        let queue = match admin {
            true => &self.admins,
            false => &self.users,
        };
        queue.send(command).await.map_err(|_| Ended)
    }
}

impl Questions {
    /// The next one; none when nobody can ask any more.
    pub async fn recv(&mut self) -> Option<Command> {
        tokio::select! {
            biased;
            Some(question) = self.admins.recv() => Some(question),
            Some(question) = self.users.recv() => Some(question),
            else => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_and_an_admins_question_pass_any_number_of_users_questions() {
        let (outbox, mut inbox) = mailbox();
        let ask = |user: &str| {
            let (reply, _) = tokio::sync::oneshot::channel();
            Command::Explain(user.to_owned(), None, reply)
        };
        let users: Vec<_> = (0..100)
            .map(|_| {
                let outbox = outbox.clone();
                tokio::spawn(async move { outbox.question(false, ask("users")).await })
            })
            .collect();
        while inbox.questions.users.len() < MOST {
            tokio::task::yield_now().await;
        }
        outbox.question(true, ask("admins")).await.unwrap();
        let (reply, _) = tokio::sync::oneshot::channel();
        outbox
            .order(Command::Reload("root".into(), reply))
            .await
            .unwrap();
        assert!(matches!(
            inbox.orders.recv().await,
            Some(Command::Reload(..))
        ));
        let asked = inbox.questions.recv().await;
        assert!(matches!(asked, Some(Command::Explain(who, ..)) if who == "admins"));
        for _ in users {
            let asked = inbox.questions.recv().await;
            assert!(matches!(asked, Some(Command::Explain(who, ..)) if who == "users"));
        }
        drop(outbox);
        assert!(inbox.questions.recv().await.is_none());
        assert!(inbox.orders.recv().await.is_none());
    }
}
