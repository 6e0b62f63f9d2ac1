//! Shows the last snapshot wherever the configuration says.

use super::http::{self, Shared, Shown};
use super::snapshot::MetricsSnapshot;
use super::text::Format;
use super::textfile;
use super::token::Token;
use crate::config::{Listen, Metrics, USUAL_GROUP};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, mpsc};
use tokio::task::AbortHandle;

/// Why metrics are not shown somewhere; it is tried again at every tick.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Nobody can connect.
    #[error(
        "metrics.listen = \"{at}\": {source}; is another program there (ss -ltnp), or is the \
         address not this node's?"
    )]
    Listen {
        /// The address or path, as configured.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such group.
    #[error(
        "metrics.group = \"{0}\": /etc/group has no such group; name the group that your exporter runs \
         under, or \"root\""
    )]
    Group(String),
    /// What scrapers prove themselves by cannot be used.
    #[error("metrics.token_file = \"{path}\": {source}")]
    Token {
        /// The file, as configured.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(
        "metrics.textfile = \"{path}\": {source}; the directory must exist, belong to root, and be \
         named by ReadWritePaths= of hubwarden.service if it is not Debian's"
    )]
    Textfile {
        /// The file, as configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps the listener and the file.
#[derive(Debug)]
pub struct Exporter {
    settings: Metrics,
    snapshot: Shared,
    listening: Option<AbortHandle>,
    writing: Option<mpsc::Receiver<io::Result<()>>>,
}

impl Exporter {
    /// Shows nothing until the first [`Exporter::publish`].
    pub fn new(settings: Metrics) -> Exporter {
        Exporter {
            settings,
            snapshot: Shared::default(),
            listening: None,
            writing: None,
        }
    }

    /// Goes by another configuration from the next snapshot on; what the old one alone asked for
    /// ends at once.
    pub fn configure(&mut self, settings: Metrics) {
        let open_to = |of: &Metrics| (of.listen.clone(), of.group.clone(), of.token_file.clone());
        if open_to(&settings) != open_to(&self.settings) {
            self.stop_listening();
        }
        if settings.textfile != self.settings.textfile {
            self.remove_textfile();
        }
        self.settings = settings;
    }

    /// Whether anybody is shown anything.
    pub fn wanted(&self) -> bool {
        self.settings.wanted()
    }

    /// Shows a snapshot from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// All that did not work, now or in writing the last snapshot; the next call tries again.
    pub fn publish(&mut self, snapshot: MetricsSnapshot) -> Result<(), Vec<ExportError>> {
        let snapshot = Arc::new(snapshot);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Shown::new(Arc::clone(&snapshot)));
        let mut errors = Vec::new();
        errors.extend(self.start_listening().err());
        errors.extend(self.write_textfile(snapshot).err());
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn start_listening(&mut self) -> Result<(), ExportError> {
        let ended = |task: &AbortHandle| task.is_finished();
        let Some(at) = &self.settings.listen else {
            return Ok(());
        };
        if self.listening.as_ref().is_some_and(|task| !ended(task)) {
            return Ok(());
        }
        let token = match &self.settings.token_file {
            Some(path) => Some(Token::read(path).map_err(|source| ExportError::Token {
                path: path.clone(),
                source,
            })?),
            None => None,
        };
        let group = group(self.settings.group.as_deref())?;
        match http::listen(at, group, token, Arc::clone(&self.snapshot)) {
            Ok(task) => {
                self.listening = Some(task);
                Ok(())
            }
            Err(source) => Err(ExportError::Listen {
                at: match at {
                    Listen::Tcp(address) => address.to_string(),
                    Listen::Unix(path) => path.display().to_string(),
                },
                source,
            }),
        }
    }

    fn stop_listening(&mut self) {
        let Some(task) = self.listening.take() else {
            return;
        };
        task.abort();
        if let Some(Listen::Unix(path)) = &self.settings.listen {
            // Whoever listens there next removes it as well.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Writes beside the loop; while one is being written the next snapshot is left out.
    fn write_textfile(&mut self, snapshot: Arc<MetricsSnapshot>) -> Result<(), ExportError> {
        let Some(path) = self.settings.textfile.clone() else {
            return Ok(());
        };
        let last = match self.writing.as_ref().map(mpsc::Receiver::try_recv) {
            Some(Err(mpsc::TryRecvError::Empty)) => return Ok(()),
            Some(Ok(result)) => result,
            Some(Err(mpsc::TryRecvError::Disconnected)) | None => Ok(()),
        };
        let group = group(self.settings.group.as_deref())?;
        let (done, writing) = mpsc::sync_channel(1);
        self.writing = Some(writing);
        let to = path.clone();
        tokio::task::spawn_blocking(move || {
            let text = Format::Prometheus.write(snapshot);
            let result = text
                .map_err(io::Error::other)
                .and_then(|text| textfile::write(&to, &text, group));
            // Nobody waits once the exporter is gone.
            let _ = done.send(result);
        });
        last.map_err(|source| ExportError::Textfile { path, source })
    }

    fn remove_textfile(&mut self) {
        let Some(path) = &self.settings.textfile else {
            return;
        };
        if let Some(writing) = self.writing.take() {
            // What is being written must not come back after it was removed.
            let _ = writing.recv_timeout(std::time::Duration::from_secs(2));
        }
        // Where it cannot be removed it could not be written either.
        let _ = textfile::remove(path);
    }
}

/// A group's number, of this node's own groups; NSS may ask a network. Where no group is configured,
/// that of Debian's exporters if it is there, and else root's alone.
fn group(name: Option<&str>) -> Result<Option<u32>, ExportError> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    match (name, find_group(&groups, name.unwrap_or(USUAL_GROUP))) {
        (Some(name), None) => Err(ExportError::Group(name.to_owned())),
        (_, found) => Ok(found),
    }
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// A daemon that stops shows nothing: old numbers would pass for new ones.
impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop_listening();
        self.remove_textfile();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_named_must_be_there() {
        assert_eq!(group(Some("root")).unwrap(), Some(0));
        let error = group(Some("no-such-group")).unwrap_err().to_string();
        assert!(
            error.contains("metrics.group = \"no-such-group\""),
            "{error}"
        );
        let groups = "root:x:0:\nprometheus:x:117:a\nodd\n";
        assert_eq!(find_group(groups, "prometheus"), Some(117));
        assert_eq!(find_group(groups, "odd"), None);
    }
}
