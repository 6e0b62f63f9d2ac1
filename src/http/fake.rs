//! A service made up for a test, on a thread of its own.

use super::Endpoint;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method and target: `GET /x`.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// Answers each request by a function: status and body.
pub struct Service {
    endpoint: Endpoint,
    asked: Arc<Mutex<Vec<Asked>>>,
    received: Arc<Mutex<Vec<usize>>>,
    _directory: Option<tempfile::TempDir>,
}

/// Status, body and further header lines.
type Answers = dyn Fn(&Asked) -> (u16, String, Vec<String>) + Send;

impl Service {
    /// On loopback.
    pub fn tcp(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Service {
        Service::tcp_with(move |asked| {
            let (status, body) = answer(asked);
            (status, body, Vec::new())
        })
    }

    /// On loopback, as a JupyterHub marks its answers.
    pub fn jupyterhub(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Service {
        Service::tcp_with(move |asked| {
            let (status, body) = answer(asked);
            (status, body, vec!["X-JupyterHub-Version: 5.2.1".to_owned()])
        })
    }

    /// On loopback, with header lines of its own.
    pub fn tcp_with(
        answer: impl Fn(&Asked) -> (u16, String, Vec<String>) + Send + 'static,
    ) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::default();
        let received = Arc::default();
        let (seen, counts) = (Arc::clone(&asked), Arc::clone(&received));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                serve(stream.try_clone().unwrap(), stream, &seen, &counts, &answer);
            }
        });
        let host = "127.0.0.1".to_owned();
        Service {
            endpoint: Endpoint::Tcp { host, port },
            asked,
            received,
            _directory: None,
        }
    }

    /// On a socket in a directory of its own.
    pub fn unix(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Service {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::default();
        let received = Arc::default();
        let (seen, counts) = (Arc::clone(&asked), Arc::clone(&received));
        std::thread::spawn(move || {
            let answer = move |asked: &Asked| {
                let (status, body) = answer(asked);
                (status, body, Vec::new())
            };
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                serve(stream.try_clone().unwrap(), stream, &seen, &counts, &answer);
            }
        });
        Service {
            endpoint: Endpoint::Unix(path),
            asked,
            received,
            _directory: Some(directory),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Bytes of the first line that came over the first connection.
    pub fn bytes_of_the_first(&self) -> usize {
        self.received.lock().unwrap()[0]
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    reader: impl Read,
    mut writer: impl Write,
    seen: &Mutex<Vec<Asked>>,
    counts: &Mutex<Vec<usize>>,
    answer: &Answers,
) {
    let mut lines = BufReader::new(reader).lines();
    let first = lines.next().and_then(Result::ok);
    counts
        .lock()
        .unwrap()
        .push(first.as_ref().map_or(0, String::len));
    let Some(first) = first else {
        return;
    };
    let target = first.trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        match line.unwrap().split_once(": ") {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            None => break,
        }
    }
    let asked = Asked { target, headers };
    seen.lock().unwrap().push(asked.clone());
    let (status, body, more) = answer(&asked);
    let length = body.len();
    let more: String = more.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{more}connection: close\r\n\r\n"
    );
    // Whoever hung up is who the test is about.
    let _ = writer.write_all(format!("{head}{body}").as_bytes());
}

/// Runs a future to its end, as the daemon's one thread does.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
