//! The control socket with a client, or an attacker, at its other end.

use super::super::client::{Client, over_socket};
use super::super::{Command, mailbox};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_members_connections_are_bounded_and_leave_root_its_own() {
    let places = Arc::new(Places::default());
    let mut taken: Vec<_> = (0..1_000)
        .filter_map(|n| places.take(1000 + n % 100))
        .collect();
    assert_eq!(taken.len(), MOST_OF_MEMBERS);
    assert!(places.take(0).is_some());
    taken.clear();
    let one: Vec<_> = (0..100).filter_map(|_| places.take(1000)).collect();
    assert_eq!(one.len(), MOST_OF_A_MEMBER);
    drop(one);
    assert!(places.0.lock().unwrap().is_empty());
}

/// A socket with a loop that obeys orders and answers no question.
async fn served(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("control");
    let (outbox, mut inbox) = mailbox();
    listen(&path, outbox, Arc::default()).await.unwrap();
    tokio::spawn(async move {
        let mut left_waiting = Vec::new();
        loop {
            tokio::select! {
                Some(order) = inbox.orders.recv() => match order {
                    Command::Off(who, reply) => drop(reply.send(Ok(format!("off, says {who}")))),
                    _ => panic!("an order that was not given"),
                },
                Some(question) = inbox.questions.recv() => left_waiting.push(question),
                else => return,
            }
        }
    });
    path
}

/// Whoever runs these tests as root may use the socket; another user is let go at once.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[tokio::test]
async fn off_is_obeyed_beside_questions_and_half_open_connections_without_end() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = served(directory.path()).await;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o007,
        0
    );
    // Questions that nobody answers, on one connection: it is not read from after a few.
    let asking = over_socket(UnixStream::connect(&path).await.unwrap())
        .await
        .unwrap();
    for _ in 0..100 {
        let client = Client::new(&asking).await.unwrap();
        tokio::spawn(async move { client.status().await });
    }
    // Others that say nothing, or nonsense, or half of something.
    let mut others = Vec::new();
    for say in [
        &b""[..],
        b"\0",
        b"\0AUTH EXT",
        b"\0AUTH EXTERNAL 31303030\r\n",
    ] {
        for _ in 0..10 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(say).await.unwrap();
            others.push(stream);
        }
    }
    let connection = over_socket(UnixStream::connect(&path).await.unwrap())
        .await
        .unwrap();
    let client = Client::new(&connection).await.unwrap();
    assert_eq!(client.off().await.unwrap(), "off, says root");
    // Those that never said who they are are let go.
    for mut stream in others {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn one_that_says_to_be_another_uid_is_let_go() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = served(directory.path()).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    // "1000", in hexadecimal digits of its characters.
    let claim = b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n";
    stream.write_all(claim).await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("REJECTED"), "{said}");
}

#[tokio::test]
async fn a_second_daemon_does_not_take_the_socket_and_a_dead_ones_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control");
    let left_behind = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (outbox, _inbox) = mailbox();
    let taken = listen(&path, outbox.clone(), Arc::default()).await;
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(left_behind);
    listen(&path, outbox, Arc::default()).await.unwrap();
}
