//! What a process says of itself: its arguments and its environment (proc(5), `cmdline`, `environ`).
//!
//! Both are the process's own memory, so a user chooses what stands there. They are hints: they make
//! a place worth a row, and nothing more.

use serde::{Deserialize, Serialize};

/// Words of a command line that are looked at.
const MOST_WORDS: usize = 8;
/// Bytes of a user's name that are kept; JupyterHub's names have 255 characters at most.
const LONGEST_NAME: usize = 255;

/// Programs that are a single-user server, by their file name.
const SERVERS: [&str; 9] = [
    "jupyterhub-singleuser",
    "jupyter-labhub",
    "jupyter-lab",
    "jupyter-notebook",
    "jupyter-nbclassic",
    "jupyter-server",
    "batchspawner-singleuser",
    // They make a server of code-server, RStudio, Streamlit and others.
    "jhsingle-native-proxy",
    "jupyter-standaloneproxy",
];
/// The same started as `python -m`.
const MODULES: [&str; 8] = [
    "jupyterhub.singleuser",
    "jupyterhub_singleuser",
    "jupyterlab",
    "jupyter_server",
    "notebook",
    "nbclassic",
    "jhsingle_native_proxy",
    "jhsingle_native_proxy.main",
];
/// The hub itself.
const HUBS: [&str; 1] = ["jupyterhub"];
const HUB_MODULES: [&str; 2] = ["jupyterhub", "jupyterhub.app"];
/// `jupyterhub token` and the like are no hub.
const HUB_VERBS: [&[u8]; 2] = [b"token", b"upgrade-db"];

/// What a process looks like by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Looks {
    /// A single-user server.
    Server,
    /// A hub.
    Hub,
}

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Said {
    /// By its arguments.
    pub looks: Option<Looks>,
    /// Whether its environment has what a hub gives a single-user server.
    pub environment: bool,
    /// `JUPYTERHUB_USER` of its environment, where it has one.
    pub user: Option<String>,
}

impl Said {
    /// Reads both files' bytes, either of which may be cut or empty. The token is not kept.
    pub fn read(arguments: &[u8], environment: &[u8]) -> Said {
        let (environment, user) = environment_says(environment);
        Said {
            looks: looks(arguments),
            environment,
            user,
        }
    }

    /// Whether it says nothing of a hub.
    pub fn is_nothing(&self) -> bool {
        self.looks.is_none() && !self.environment
    }
}

/// What a command line, its words ended by NUL, is: the program itself, a script that an interpreter
/// runs, or a module of Python's.
fn looks(line: &[u8]) -> Option<Looks> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).take(MOST_WORDS).collect();
    let file_name = |word: &[u8], names: &[&str]| {
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or(word);
        names.iter().any(|known| known.as_bytes() == name)
    };
    // The interpreter's own options stand between it and the script.
    let script = words
        .iter()
        .skip(1)
        .position(|word| !word.starts_with(b"-"));
    let script = script.map(|at| at + 1);
    let programs = [Some(0), script].into_iter().flatten();
    let module = words
        .iter()
        .position(|word| *word == b"-m")
        .map(|at| at + 1);
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let is = |names: &[&str], modules: &[&str]| {
        let by_file = programs.clone().find(|at| file_name(word(*at), names));
        let by_module = || {
            let named = |at: &usize| modules.iter().any(|known| known.as_bytes() == word(*at));
            module.filter(named)
        };
        by_file.or_else(by_module)
    };
    if is(&SERVERS, &MODULES).is_some() {
        return Some(Looks::Server);
    }
    let at = is(&HUBS, &HUB_MODULES)?;
    let verb = HUB_VERBS.contains(&word(at + 1));
    (!verb).then_some(Looks::Hub)
}

/// Whether it is a single-user server's environment, and whose by its own word. A service of the hub's
/// has a token too, and no user.
fn environment_says(bytes: &[u8]) -> (bool, Option<String>) {
    let (mut of_user, mut service) = (false, false);
    let mut user = None;
    for word in bytes.split(|byte| *byte == 0) {
        let Some(at) = word.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = word.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        match name {
            b"JUPYTERHUB_SERVICE_NAME" => service = !value.is_empty(),
            b"JUPYTERHUB_SERVICE_PREFIX" => {
                of_user = value.windows(6).any(|part| part == b"/user/");
            }
            b"JUPYTERHUB_USER" if !value.is_empty() => {
                let value = value.get(..LONGEST_NAME).unwrap_or(value);
                user = Some(String::from_utf8_lossy(value).into_owned());
            }
            _ => {}
        }
    }
    let is_server = of_user || user.is_some() && !service;
    (is_server, user.filter(|_| is_server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_hubs_are_told_from_everything_else() {
        for line in [
            "/opt/tljh/user/bin/python3\0/opt/tljh/user/bin/jupyterhub-singleuser\0--port=1\0",
            "/usr/bin/jupyter-labhub\0",
            "python3\0-E\0/usr/local/bin/jupyterhub-singleuser\0",
            "python3\0-m\0jupyterhub.singleuser\0",
            "/opt/conda/bin/python3.11\0/opt/conda/bin/jhsingle-native-proxy\0--\0code-server\0",
            "python\0-m\0jhsingle_native_proxy.main\0rserver\0",
        ] {
            assert_eq!(looks(line.as_bytes()), Some(Looks::Server), "{line}");
        }
        for line in [
            "/opt/tljh/hub/bin/python3\0-m\0jupyterhub.app\0-f\0x\0",
            "/usr/bin/python3\0/usr/bin/jupyterhub\0--config\0/etc/x.py\0",
            "jupyterhub\0",
        ] {
            assert_eq!(looks(line.as_bytes()), Some(Looks::Hub), "{line}");
        }
        for line in [
            "",
            "\0",
            "node\0/usr/bin/configurable-http-proxy\0",
            "vim\0notes on\0/usr/bin/jupyterhub-singleuser\0",
            "sudospawner\0",
            "python3\0/usr/bin/jupyterhub\0token\0alice\0",
            "python3\0-m\0",
        ] {
            assert_eq!(looks(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_servers_environment_is_known_and_its_token_is_not_kept() {
        let server = b"A=1\0JUPYTERHUB_API_TOKEN=secret\0JUPYTERHUB_USER=al\xffice\0";
        let said = Said::read(b"streamlit\0", server);
        assert!(said.environment && said.looks.is_none());
        assert_eq!(said.user.as_deref(), Some("al\u{fffd}ice"));
        assert!(!format!("{said:?}").contains("secret"));
        let prefix = b"JUPYTERHUB_SERVICE_PREFIX=/hub1/user/bob/\0";
        assert!(Said::read(b"", prefix).environment);
        for other in [
            &b""[..],
            b"JUPYTERHUB_USER=\0",
            b"JUPYTERHUB_USER",
            b"JUPYTERHUB_API_TOKEN=x\0JUPYTERHUB_SERVICE_NAME=culler\0JUPYTERHUB_USER=root\0",
            b"JUPYTERHUB_API_TOKEN=x\0JUPYTERHUB_SERVICE_PREFIX=/services/announce/\0",
            b"NOTJUPYTERHUB_USER=a\0",
        ] {
            assert!(Said::read(b"", other).is_nothing(), "{other:?}");
        }
    }

    #[test]
    fn a_name_without_end_is_cut() {
        let long = format!("JUPYTERHUB_USER={}", "é".repeat(10_000));
        let said = Said::read(b"", long.as_bytes());
        assert!(
            said.user
                .is_some_and(|name| name.chars().count() <= LONGEST_NAME)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            arguments in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            environment in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let _ = Said::read(&arguments, &environment);
        }
    }
}
