//! `[metrics]`: where counters are shown to a monitoring system.

use super::decode::{FromToml, Section};
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::de::DeValue;

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where `GET /metrics` is answered; `None` is nowhere.
    pub listen: Option<Listen>,
    /// The file that node_exporter's textfile collector reads; `None` is no file.
    pub textfile: Option<PathBuf>,
    /// Whether users are named; without, only sums over the node are shown.
    pub user_names: bool,
    /// The group that may read the file and connect to the socket; `None` is
    /// [`USUAL_GROUP`] where it is there, and else none but root.
    pub group: Option<String>,
    /// A file with the token that scrapers over TCP have to give; `None` asks for none.
    pub token_file: Option<PathBuf>,
    /// Whether `listen` may be an address that other machines reach.
    pub allow_remote: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            listen: None,
            textfile: None,
            user_names: true,
            group: None,
            token_file: None,
            allow_remote: false,
        }
    }
}

impl Metrics {
    /// Whether anybody is shown anything.
    pub fn wanted(&self) -> bool {
        self.listen.is_some() || self.textfile.is_some()
    }
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address and port.
    Tcp(SocketAddr),
    /// A socket in the file system, in the daemon's own directory.
    Unix(PathBuf),
}

/// The daemon's own directory, the only one it may make a socket in.
const SOCKETS: &str = "/run/hubwarden/";

/// What Debian's prometheus and its node exporter run under; a node may go without.
pub const USUAL_GROUP: &str = "prometheus";

/// A value, or `"none"`.
struct OrNone<T>(Option<T>);

impl FromToml for OrNone<Listen> {
    const EXPECTED: &'static str =
        "an address such as \"127.0.0.1:9847\", a socket in /run/hubwarden/, or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        if text == "none" {
            return Ok(OrNone(None));
        }
        if let Some(name) = text.strip_prefix(SOCKETS) {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let good = name.len() <= 64
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(plain);
            return if good {
                Ok(OrNone(Some(Listen::Unix(PathBuf::from(text)))))
            } else {
                Err("a socket's name is up to 64 letters, digits, '.', '-' and '_'".into())
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(OrNone(Some(Listen::Tcp(address)))),
            Ok(_) => Err("the port must not be 0".into()),
            Err(_) => Err(String::new()),
        }
    }
}

impl FromToml for OrNone<PathBuf> {
    const EXPECTED: &'static str = "an absolute path that ends in \".prom\", or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        if text == "none" {
            return Ok(OrNone(None));
        }
        let path = PathBuf::from(text);
        let plain = path
            .components()
            .all(|part| !matches!(part, std::path::Component::ParentDir));
        if path.is_absolute() && plain && text.ends_with(".prom") {
            Ok(OrNone(Some(path)))
        } else {
            Err(String::new())
        }
    }
}

/// A group's name, as groupadd(8) takes it.
struct GroupName(String);

impl FromToml for GroupName {
    const EXPECTED: &'static str = "the name of a group, such as \"prometheus\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let good = (1..=32).contains(&text.len()) && text.chars().all(plain);
        match good {
            true => Ok(GroupName(text.to_owned())),
            false => Err(String::new()),
        }
    }
}

/// A file's absolute path, or `"none"`.
struct TokenFile(Option<PathBuf>);

impl FromToml for TokenFile {
    const EXPECTED: &'static str =
        "an absolute path, such as \"/etc/hubwarden/metrics.token\", or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("none") => Ok(TokenFile(None)),
            Some(text) if text.starts_with('/') => Ok(TokenFile(Some(text.into()))),
            _ => Err(String::new()),
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, default: Metrics) -> Metrics {
    let metrics = Metrics {
        listen: section
            .optional::<OrNone<Listen>>("listen")
            .map_or(default.listen, |listen| listen.0),
        textfile: section
            .optional::<OrNone<PathBuf>>("textfile")
            .map_or(default.textfile, |path| path.0),
        user_names: section.value("user_names", default.user_names),
        group: section
            .optional::<GroupName>("group")
            .map(|group| group.0)
            .filter(|group| group != USUAL_GROUP)
            .or(default.group),
        token_file: section
            .optional::<TokenFile>("token_file")
            .map_or(default.token_file, |file| file.0),
        allow_remote: section.value("allow_remote", default.allow_remote),
    };
    if let Some(Listen::Tcp(address)) = &metrics.listen
        && !address.ip().to_canonical().is_loopback()
        && !metrics.allow_remote
    {
        section.complain(
            "listen",
            "is reached by other machines, and it tells who works here and how much; if you mean \
             that, set metrics.allow_remote = true",
        );
    } else if let Some(Listen::Tcp(_)) = &metrics.listen
        && metrics.user_names
        && metrics.token_file.is_none()
    {
        section.complain(
            "listen",
            "is reached by every user of this node, and it names users; set metrics.token_file to a file \
             with a token for scrapers, or listen at a socket such as \
             \"/run/hubwarden/metrics.sock\", or set metrics.user_names = false",
        );
    }
    section.finish();
    metrics
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn metrics(text: &str) -> Result<Metrics, String> {
        Config::parse(&format!("[metrics]\n{text}\n"))
            .map(|config| config.metrics)
            .map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn nothing_is_shown_unless_asked_for() {
        assert!(!Config::default().metrics.wanted());
        assert!(
            metrics("listen = \"127.0.0.1:9847\"\nuser_names = false")
                .unwrap()
                .wanted()
        );
        assert_eq!(
            metrics("listen = \"none\"\ntextfile = \"none\"").unwrap(),
            Metrics::default()
        );
    }

    #[test]
    fn an_address_that_others_reach_needs_a_word_of_its_own() {
        for address in [
            "0.0.0.0:9847",
            "192.0.2.1:9847",
            "[::]:9847",
            "[::ffff:192.0.2.1]:1",
        ] {
            let error = metrics(&format!("listen = \"{address}\"")).unwrap_err();
            assert!(error.contains("metrics.allow_remote = true"), "{error}");
            let text = format!("listen = \"{address}\"\nallow_remote = true\nuser_names = false");
            assert!(metrics(&text).is_ok());
        }
        for address in ["127.0.0.1:9847", "[::1]:9847", "127.1.2.3:80"] {
            assert!(metrics(&format!("listen = \"{address}\"\nuser_names = false")).is_ok());
        }
    }

    #[test]
    fn users_are_named_over_tcp_only_to_who_has_a_token() {
        let error = metrics("listen = \"127.0.0.1:9847\"").unwrap_err();
        for remedy in ["metrics.token_file", "metrics.sock", "user_names = false"] {
            assert!(error.contains(remedy), "{error}");
        }
        let token = "listen = \"127.0.0.1:9847\"\ntoken_file = \"/etc/hubwarden/token\"";
        let token = metrics(token).unwrap().token_file;
        assert_eq!(token, Some("/etc/hubwarden/token".into()));
        assert!(metrics("token_file = \"token\"").is_err());
    }

    #[test]
    fn a_group_has_a_groups_name() {
        let group = metrics("group = \"node_exporter\"").unwrap().group;
        assert_eq!(group.as_deref(), Some("node_exporter"));
        for bad in ["", "a:b", "a b", "a/b"] {
            assert!(metrics(&format!("group = \"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_socket_is_in_the_daemons_directory() {
        assert_eq!(
            metrics("listen = \"/run/hubwarden/metrics.sock\"")
                .unwrap()
                .listen,
            Some(Listen::Unix("/run/hubwarden/metrics.sock".into()))
        );
        for bad in [
            "/tmp/x",
            "/run/hubwarden/../x",
            "/run/hubwarden/",
            "9847",
            "127.0.0.1:0",
        ] {
            assert!(metrics(&format!("listen = \"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_textfile_is_one_that_node_exporter_would_read() {
        assert!(metrics("textfile = \"/var/lib/prometheus/node-exporter/hubwarden.prom\"").is_ok());
        for bad in ["hubwarden.prom", "/var/lib/x.txt", "/var/../etc/x.prom"] {
            let error = metrics(&format!("textfile = \"{bad}\"")).unwrap_err();
            assert!(error.contains("ends in \".prom\""), "{error}");
        }
    }
}
