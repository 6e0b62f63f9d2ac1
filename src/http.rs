//! A small HTTP client for services of this node: Docker's socket and the hub's API.
//!
//! One connection a request, everything bounded: time, and the bytes of an answer. No TLS, since
//! nothing that is asked leaves the node; no redirects, which could carry a token elsewhere. Who is
//! at the other end is checked before the first byte is sent.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream, lookup_host};

/// A service of this node that has not answered by then is at fault.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer taken.
const MOST_BYTES: usize = 4 << 20;
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;

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

/// An open connection, on which nothing was sent yet.
#[derive(Debug)]
pub enum Connection {
    /// To a Unix socket.
    Unix(UnixStream),
    /// To a TCP port.
    Tcp(TcpStream),
}

/// Why a peer was not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Stranger {
    /// Where, who listens there, and the remedy.
    pub text: String,
    /// Of the same kind whatever a user can vary in the text, such as a cgroup's name.
    pub kind: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JupyterHub's mark, `X-JupyterHub-Version`, is among the headers.
    pub from_jupyterhub: bool,
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
    /// Someone else than the service listens there. Nothing was sent.
    #[error("{0}")]
    Stranger(#[from] Stranger),
    /// It hung up, sent too much, or spoke something else.
    #[error("{to} gave no good answer: {why}")]
    Broken {
        /// Where.
        to: Endpoint,
        /// What was wrong.
        why: String,
    },
}

/// Sends a request without a body and takes the answer in. `admit` sees the connection before
/// anything is sent on it. A name with several addresses is tried in order until one is admitted.
///
/// # Errors
/// Nobody answers, or not in time, or with more than 4 MiB, or `admit` refuses.
pub async fn ask(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    admit: impl AsyncFn(&Connection) -> Result<(), Stranger>,
) -> Result<Answer, HttpError> {
    tokio::time::timeout(TIMEOUT, ask_patiently(to, method, path, headers, admit))
        .await
        .unwrap_or_else(|_| Err(HttpError::Slow { to: to.clone() }))
}

/// Admits a socket at which root, or whoever runs this process, listens. For the sockets of
/// container engines.
pub async fn of_root(connection: &Connection) -> Result<(), Stranger> {
    let Connection::Unix(stream) = connection else {
        return Ok(());
    };
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            let text = format!("the kernel does not say who listens there: {error}");
            let kind = text.clone();
            return Err(Stranger { text, kind });
        }
    };
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let text = format!("uid {uid} listens there, not root; name the socket of root's own engine");
    let kind = text.clone();
    Err(Stranger { text, kind })
}

async fn ask_patiently(
    to: &Endpoint,
    method: Method,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
    admit: impl AsyncFn(&Connection) -> Result<(), Stranger>,
) -> Result<Answer, HttpError> {
    let broken = |why: String| HttpError::Broken {
        to: to.clone(),
        why,
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
    match connect(to, admit).await? {
        Connection::Unix(stream) => exchange(TokioIo::new(stream), request).await,
        Connection::Tcp(stream) => exchange(TokioIo::new(stream), request).await,
    }
    .map_err(broken)
}

/// The first connection that is admitted.
async fn connect(
    to: &Endpoint,
    admit: impl AsyncFn(&Connection) -> Result<(), Stranger>,
) -> Result<Connection, HttpError> {
    let failed = |source| HttpError::Connect {
        to: to.clone(),
        source,
    };
    let addresses: Vec<SocketAddr> = match to {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            let connection = Connection::Unix(stream);
            admit(&connection).await?;
            return Ok(connection);
        }
        Endpoint::Tcp { host, port } => lookup_host((host.as_str(), *port))
            .await
            .map_err(failed)?
            .take(MOST_ADDRESSES)
            .collect(),
    };
    // A stranger says more than a port at which nobody listens.
    let mut stranger = None;
    let mut refused = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Err(error) => refused = error,
            Ok(stream) => {
                let connection = Connection::Tcp(stream);
                match admit(&connection).await {
                    Ok(()) => return Ok(connection),
                    Err(why) => stranger = stranger.or(Some(why)),
                }
            }
        }
    }
    Err(stranger.map_or_else(|| failed(refused), HttpError::Stranger))
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
        let from_jupyterhub = response.headers().contains_key("x-jupyterhub-version");
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Answer {
            status,
            from_jupyterhub,
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
        fake::run(ask(to, Method::GET, "/x?y=1", &[], of_root))
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
    fn a_stranger_is_sent_nothing() {
        for service in [
            Service::tcp(|_| (200, "yes".into())),
            Service::unix(|_| (200, "yes".into())),
        ] {
            let refuse = async |_: &Connection| {
                let text = "uid 1001 listens there".to_owned();
                let kind = text.clone();
                Err(Stranger { text, kind })
            };
            let token = HeaderValue::from_static("token s3cret");
            let headers = [(hyper::header::AUTHORIZATION, token)];
            let asked = ask(service.endpoint(), Method::GET, "/x", &headers, refuse);
            let error = fake::run(asked).unwrap_err();
            assert_eq!(error.to_string(), "uid 1001 listens there");
            // What is asked next is the first that the service sees.
            get(service.endpoint()).unwrap();
            assert_eq!(service.bytes_of_the_first(), 0);
            assert_eq!(service.asked()[0].target, "GET /x?y=1");
        }
    }

    #[test]
    fn a_redirect_is_an_answer_and_never_followed() {
        let elsewhere = Service::tcp(|_| (200, "the token, please".into()));
        let to = format!("http://{}/", elsewhere.endpoint());
        let service =
            Service::tcp_with(move |_| (302, String::new(), vec![format!("location: {to}")]));
        assert_eq!(get(service.endpoint()).unwrap().status, 302);
        assert!(elsewhere.asked().is_empty());
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
