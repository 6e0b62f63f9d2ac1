//! A listener that answers `GET /metrics` and nothing else.
//!
//! Whoever may connect can ask, so everything is bounded: bytes of a request, time for it and for
//! the answer, and connections at once. A text that is being written for one asker is written
//! beside the daemon's loop.

use super::snapshot::MetricsSnapshot;
use super::text::Format;
use crate::config::Listen;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Longest request; Prometheus sends about 300 bytes.
const LONGEST: usize = 8192;
/// Time for asking, and then for reading the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at once; more wait in the kernel's queue.
const AT_ONCE: usize = 16;

/// The last snapshot, shared with whoever is answering.
pub(super) type Shared = Arc<Mutex<Arc<MetricsSnapshot>>>;

/// Starts answering; ends when the handle is aborted.
///
/// # Errors
/// The address is not this node's, somebody else listens there, or the socket cannot be made.
pub(super) fn listen(at: &Listen, snapshot: Shared) -> io::Result<AbortHandle> {
    let listener = match at {
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Listener::Tcp(TcpListener::from_std(listener)?)
        }
        Listen::Unix(path) => {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Listener::Unix(listener)
        }
    };
    Ok(tokio::spawn(serve(listener, snapshot)).abort_handle())
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An earlier daemon's socket is in the way; anything else there is somebody's.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn serve(listener: Listener, snapshot: Shared) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let snapshot = Arc::clone(&snapshot);
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    converse(stream, &snapshot).await;
                    drop(place);
                });
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    converse(stream, &snapshot).await;
                    drop(place);
                });
            }),
        };
        if accepted.is_err() {
            // Out of file descriptors, most likely: at once it would be the same.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// One question, one answer. Whoever hangs up or dawdles gets none.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, snapshot: &Shared) {
    let Ok(Ok(request)) = timeout(PATIENCE, read_request(&mut stream)).await else {
        return;
    };
    let answer = match judge(&request) {
        Ok((format, body_wanted)) => {
            let last = Arc::clone(&snapshot.lock().unwrap_or_else(PoisonError::into_inner));
            match tokio::task::spawn_blocking(move || format.write(last)).await {
                Ok(Ok(text)) => {
                    let body = if body_wanted { text.as_str() } else { "" };
                    respond("200 OK", format.content_type(), text.len(), body)
                }
                _ => plain("500 Internal Server Error"),
            }
        }
        Err(status) => plain(status),
    };
    let send = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = timeout(PATIENCE, send).await;
}

/// Reads up to the empty line that ends a request's head; a body is nobody's business here.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = stream.read(&mut part).await?;
        request.extend_from_slice(&part[..length]);
        let ended = request.windows(4).any(|end| end == b"\r\n\r\n");
        if ended || request.len() >= LONGEST {
            return Ok(request);
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What to answer: the format and whether the body is wanted, or the status that refuses.
fn judge(request: &[u8]) -> Result<(Format, bool), &'static str> {
    if !request.windows(4).any(|end| end == b"\r\n\r\n") {
        return Err("431 Request Header Fields Too Large");
    }
    let text = std::str::from_utf8(request).map_err(|_| "400 Bad Request")?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("400 Bad Request");
    };
    if !version.starts_with("HTTP/1.") {
        return Err("400 Bad Request");
    }
    let body_wanted = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err("405 Method Not Allowed"),
    };
    if target.split('?').next() != Some("/metrics") {
        return Err("404 Not Found");
    }
    let openmetrics = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(key, value)| {
            key.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
        });
    let format = if openmetrics {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    };
    Ok((format, body_wanted))
}

fn plain(status: &str) -> String {
    let body = format!("{status}; hubwarden answers GET /metrics\n");
    respond(status, "text/plain; charset=utf-8", body.len(), &body)
}

fn respond(status: &str, content_type: &str, length: usize, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Allow: GET, HEAD\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_of_metrics_is_answered() {
        let ask = |request: &str| judge(request.as_bytes());
        assert_eq!(
            ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
            Ok((Format::Prometheus, true))
        );
        assert_eq!(
            ask(
                "GET /metrics?x HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n"
            ),
            Ok((Format::OpenMetrics, true))
        );
        assert_eq!(
            ask("HEAD /metrics HTTP/1.0\r\n\r\n"),
            Ok((Format::Prometheus, false))
        );
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics/../x HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            (
                "GET /metrics HTTP/1.1\r\n",
                "431 Request Header Fields Too Large",
            ),
        ] {
            assert_eq!(ask(request), Err(status), "{request}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_request_makes_it_panic(request: Vec<u8>) {
            let _ = judge(&request);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_dawdles_or_floods_is_not_waited_for() {
        let (mut asker, answerer) = tokio::io::duplex(64);
        let shared = Shared::default();
        let talk = tokio::spawn(async move { converse(answerer, &shared).await });
        asker.write_all(b"GET /met").await.unwrap();
        talk.await.unwrap();
        let mut answer = String::new();
        asker.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "");

        let (asker, answerer) = tokio::io::duplex(64);
        let shared = Shared::default();
        let (mut from, mut to) = tokio::io::split(asker);
        tokio::spawn(async move { converse(answerer, &shared).await });
        tokio::spawn(async move { to.write_all(&[b'x'; 3 * LONGEST]).await });
        let mut answer = String::new();
        from.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
