//! A small HTTP client for services of this node: Docker's socket and the hub's API.
//!
//! One connection a request, everything bounded: time, and the bytes of an answer. No TLS, since
//! nothing that is asked leaves the node; no redirects, which could carry a token elsewhere.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// A service of this node that has not answered by then is at fault.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer taken.
const MOST_BYTES: usize = 4 << 20;

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, of any status.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there, or not to us.
    #[error("{to} cannot be reached: {source}")]
    Connect {
        /// Where.
        to: Endpoint,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{to} did not answer within {} s", TIMEOUT.as_secs())]
    Slow {
        /// Where.
        to: Endpoint,
    },
    /// It hung up, sent too much, or spoke something else.
    #[error("{to} gave no good answer: {why}")]
    Broken {
        /// Where.
        to: Endpoint,
        /// What was wrong.
        why: String,
    },
}

/// Sends a request without a body and takes the answer in.
///
/// # Errors
/// Nobody answers, or not in time, or with more than 4 MiB.
pub async fn ask(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Answer, HttpError> {
    tokio::time::timeout(TIMEOUT, ask_patiently(to, method, path, headers))
        .await
        .unwrap_or_else(|_| Err(HttpError::Slow { to: to.clone() }))
}

async fn ask_patiently(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Answer, HttpError> {
    let broken = |why: String| HttpError::Broken {
        to: to.clone(),
        why,
    };
    let connect = |source| HttpError::Connect {
        to: to.clone(),
        source,
    };
    let host = match to {
        Endpoint::Unix(_) => "localhost".to_owned(),
        tcp => tcp.to_string(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .header("user-agent", "hubwarden");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(error.to_string()))?;
    match to {
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(connect)?;
            exchange(TokioIo::new(stream), request).await
        }
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(connect)?;
            exchange(TokioIo::new(stream), request).await
        }
    }
    .map_err(broken)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let (mut sender, connection) = http1::handshake(stream)
        .await
        .map_err(|error| error.to_string())?;
    let work = async move {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Answer {
            status,
            body: body.to_bytes().into(),
        })
    };
    tokio::pin!(work, connection);
    // The connection has to be driven for the work to get on; it may end before all that it
    // brought was taken in.
    tokio::select! {
        answer = &mut work => answer,
        ended = &mut connection => match ended {
            Ok(()) => work.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Text of an answer for a message: bounded, and without what could paint on a terminal.
pub fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    text.trim()
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::fake::Service;
    use super::*;

    fn get(to: &Endpoint) -> Result<Answer, HttpError> {
        fake::run(ask(to, Method::GET, "/x?y=1", &[]))
    }

    #[test]
    fn an_answer_comes_over_tcp_and_over_a_unix_socket() {
        for service in [
            Service::tcp(|_| (200, "yes".into())),
            Service::unix(|_| (200, "yes".into())),
        ] {
            let answer = get(service.endpoint()).unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"yes"[..]));
            let asked = &service.asked()[0];
            assert_eq!(asked.target, "GET /x?y=1");
            assert_eq!(asked.headers["user-agent"], "hubwarden");
        }
    }

    #[test]
    fn nobody_there_is_an_error_that_says_where() {
        let error = get(&Endpoint::Unix("/nonexistent/docker.sock".into())).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent/docker.sock cannot be reached: "),
            "{error}"
        );
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        let service = Service::unix(|_| (200, "x".repeat(MOST_BYTES + 1)));
        let error = get(service.endpoint()).unwrap_err().to_string();
        assert!(error.contains("length limit"), "{error}");
    }

    #[test]
    fn hostile_text_is_shown_escaped_and_short() {
        let text = excerpt(format!("\u{1b}[2J{}", "x".repeat(5000)).as_bytes());
        assert!(text.starts_with("\\u{1b}[2J") && text.len() < 300, "{text}");
    }
}
