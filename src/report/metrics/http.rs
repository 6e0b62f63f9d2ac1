//! A listener that answers `GET /metrics` and nothing else.
//!
//! Whoever may connect can ask, so everything is bounded: bytes and time of a request, time for the
//! answer, and connections at once. A connection too many is not made to wait: it takes the place of
//! one of whoever has most, so that a scraper is answered whatever others do. A text is written once
//! for each snapshot, beside the daemon's loop.

use super::places::{Peer, Places};
use super::snapshot::MetricsSnapshot;
use super::text::Format;
use super::token::Token;
use crate::config::Listen;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::OnceCell;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Longest head of a request; Prometheus sends about 300 bytes. The least that hyper takes.
const LONGEST: usize = 8192;
/// Time for a request's head.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time for a connection as a whole.
const LIFETIME: Duration = Duration::from_secs(10);

/// The last snapshot, shared with whoever is answering.
pub(super) type Shared = Arc<Mutex<Arc<Shown>>>;

/// A snapshot, and its texts once they were asked for.
#[derive(Debug, Default)]
pub(super) struct Shown {
    snapshot: Arc<MetricsSnapshot>,
    openmetrics: OnceCell<Bytes>,
    prometheus: OnceCell<Bytes>,
}

impl Shown {
    pub fn new(snapshot: Arc<MetricsSnapshot>) -> Shown {
        Shown {
            snapshot,
            ..Shown::default()
        }
    }

    async fn text(&self, format: Format) -> Result<Bytes, io::Error> {
        let cell = match format {
            Format::OpenMetrics => &self.openmetrics,
            Format::Prometheus => &self.prometheus,
        };
        let text = cell.get_or_try_init(|| async {
            let snapshot = Arc::clone(&self.snapshot);
            let text = tokio::task::spawn_blocking(move || format.write(snapshot)).await;
            let text = text.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok(Bytes::from(text))
        });
        text.await.cloned()
    }
}

/// Starts answering; ends when the handle is aborted. A socket in the file system is `group`'s.
///
/// # Errors
/// The address is not this node's, somebody else listens there, or the socket cannot be made.
pub(super) fn listen(
    at: &Listen,
    group: Option<u32>,
    token: Option<Token>,
    shared: Shared,
) -> io::Result<AbortHandle> {
    let listener = match at {
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Listener::Tcp(TcpListener::from_std(listener)?)
        }
        Listen::Unix(path) => {
            remove_stale(path)?;
            // The daemon's umask has it root's alone until its group is set.
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            if let Some(group) = group {
                chown(path, None, Some(group))?;
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Listener::Unix(listener)
        }
    };
    Ok(tokio::spawn(serve(listener, token.map(Arc::new), shared)).abort_handle())
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Box::new(stream), Peer::Host(address.ip()))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred()?.uid();
                (Box::new(stream), Peer::User(user))
            }
        })
    }
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

async fn serve(listener: Listener, token: Option<Arc<Token>>, shared: Shared) {
    let mut places = Places::default();
    // Dropped with this task, which ends all of them.
    let mut talks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = talks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let asked = Arc::new(AtomicBool::new(false));
                let talk = converse(stream, token.clone(), Arc::clone(&shared), asked.clone());
                let task = talks.spawn(talk);
                places.take(peer, asked, task);
            }
            // Out of file descriptors, most likely: at once it would be the same.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One question, one answer. Whoever hangs up or takes too long gets none.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    token: Option<Arc<Token>>,
    shared: Shared,
    asked: Arc<AtomicBool>,
) {
    let answers = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let last = Arc::clone(&shared.lock().unwrap_or_else(PoisonError::into_inner));
        let token = token.clone();
        async move { Ok::<_, Infallible>(answer(&request, token.as_deref(), &last).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answers);
    // Whatever went wrong was the asker's doing, and concerns no other.
    let _ = timeout(LIFETIME, connection).await;
}

async fn answer<B>(
    request: &Request<B>,
    token: Option<&Token>,
    shown: &Shown,
) -> Response<Full<Bytes>> {
    let format = match judge(request, token) {
        Ok(format) => format,
        Err(status) => return plain(status),
    };
    match shown.text(format).await {
        Ok(text) => with_type(Response::new(Full::new(text)), format.content_type()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// In which format to answer, or the status that refuses.
fn judge<B>(request: &Request<B>, token: Option<&Token>) -> Result<Format, StatusCode> {
    if token.is_some_and(|token| !token.is_in(request.headers().get(AUTHORIZATION))) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.uri().path() != "/metrics" {
        return Err(StatusCode::NOT_FOUND);
    }
    let mut accepts = request.headers().get_all(ACCEPT).iter();
    let openmetrics = accepts.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.contains("application/openmetrics-text")
    });
    Ok(match openmetrics {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    })
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let remedy = match status {
        StatusCode::UNAUTHORIZED => "the bearer token of metrics.token_file is asked for",
        _ => "hubwarden answers GET /metrics",
    };
    let mut response = Response::new(Full::from(format!("{status}; {remedy}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    if status == StatusCode::UNAUTHORIZED {
        let kind = hyper::header::HeaderValue::from_static("Bearer");
        headers.insert(WWW_AUTHENTICATE, kind);
    }
    with_type(response, "text/plain; charset=utf-8")
}

fn with_type(mut response: Response<Full<Bytes>>, kind: &'static str) -> Response<Full<Bytes>> {
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn ask(method: &str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_a_get_of_metrics_is_answered() {
        let judged = |method, target| judge(&ask(method, target, &[]), None);
        assert_eq!(judged("GET", "/metrics"), Ok(Format::Prometheus));
        assert_eq!(judged("HEAD", "/metrics?x"), Ok(Format::Prometheus));
        let open = [("accept", "application/openmetrics-text;version=1.0.0")];
        let open = judge(&ask("GET", "/metrics", &open), None);
        assert_eq!(open, Ok(Format::OpenMetrics));
        for (method, target, status) in [
            ("GET", "/", StatusCode::NOT_FOUND),
            ("GET", "/metrics/../x", StatusCode::NOT_FOUND),
            ("POST", "/metrics", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            assert_eq!(judged(method, target), Err(status), "{method} {target}");
        }
    }

    #[test]
    fn where_there_is_a_token_only_who_has_it_is_answered() {
        let token = Token::of("a token of some length");
        let judged = |headers: &[_]| judge(&ask("GET", "/metrics", headers), Some(&token));
        let right = ("authorization", "Bearer a token of some length");
        assert_eq!(judged(&[right]), Ok(Format::Prometheus));
        for wrong in [
            &[][..],
            &[("authorization", "Bearer a token of some lengt")],
            &[("authorization", "Basic a token of some length")],
            &[("authorization", "Bearer ")],
            &[("x", "Bearer a token of some length")],
        ] {
            assert_eq!(judged(wrong), Err(StatusCode::UNAUTHORIZED), "{wrong:?}");
        }
    }

    /// What comes back where this is sent, and nothing more.
    async fn answer_to(request: Vec<u8>) -> String {
        let (asker, answerer) = tokio::io::duplex(64);
        let (mut from, mut to) = tokio::io::split(asker);
        let asked = Arc::default();
        let talk = tokio::spawn(converse(answerer, None, Shared::default(), asked));
        let send = tokio::spawn(async move {
            let _ = to.write_all(&request).await;
            to
        });
        let mut answer = String::new();
        from.read_to_string(&mut answer).await.unwrap();
        talk.await.unwrap();
        drop(send.await.unwrap());
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn who_dawdles_or_floods_is_not_waited_for() {
        let begun = tokio::time::Instant::now();
        let answer = answer_to(b"GET /met".to_vec()).await;
        assert!(!answer.contains("200 OK"), "{answer}");
        assert!(begun.elapsed() <= LIFETIME, "{:?}", begun.elapsed());
        let mut long = b"GET /metrics HTTP/1.1\r\nx: ".to_vec();
        long.resize(3 * LONGEST, b'x');
        let answer = answer_to(long).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
