//! The command line: one file a verb.

// These panic where what is written to is closed; `answer::say` and `complain` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod check;
mod check_config;
mod dates;
mod explain;
mod flows;
mod grant;
mod hold;
mod lists;
mod off;
mod reload;
mod replay;
mod run;
mod sensor;
mod status;
mod table;
mod top;
mod worker;

use clap::{Parser, Subcommand, ValueHint};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps a JupyterHub node fair and clean.
#[derive(Debug, Parser)]
#[command(name = "hubwarden", version, about, long_about = None, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Supervise this node (systemd starts this; see systemctl status hubwarden)
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
              default_value = crate::config::PATH)]
        config: PathBuf,
        /// Directory for what must survive a restart
        #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath,
              default_value = run::STATE_DIRECTORY)]
        state: PathBuf,
    },
    /// Show servers with their user, CPU, credits, stage and egress class
    Status {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show whom servers speak with right now, and how much was said
    Flows {
        /// The hub user's name; without it, all that you may see
        user: Option<String>,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Show servers and what runs in them, on a screen that refreshes itself
    Top(top::Options),
    /// Say how a user's servers stand and why: verdicts, evidence of mining, what runs in them
    Explain {
        /// The hub user's name
        user: String,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Check what this node gives hubwarden, and where users are out of its reach
    Check {
        /// Configuration file
        #[arg(value_hint = ValueHint::FilePath, default_value = crate::config::PATH)]
        file: PathBuf,
    },
    /// Check a configuration file and name every problem with line and column
    CheckConfig {
        /// The file
        #[arg(value_hint = ValueHint::FilePath, default_value = crate::config::PATH)]
        file: PathBuf,
    },
    /// Give a user an exception for a while
    Grant(grant::Grant),
    /// List the exceptions that hold
    Grants {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Take a user's exception back
    Revoke {
        /// The hub user's name
        user: String,
    },
    /// Look at one cgroup with the sensors for miners, as the corpus does
    #[command(hide = true)]
    Sensor {
        /// Its directory
        cgroup: PathBuf,
        /// For how long
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Hold the socket that the packet rules belong to (systemd starts this; see hubwarden-table.service)
    #[command(hide = true)]
    HoldTable,
    /// Do for hubwarden what a process may hold up
    #[command(hide = true)]
    Worker {
        /// What
        work: String,
    },
    /// List the deny lists, or import and remove them
    Lists {
        #[command(subcommand)]
        order: Option<lists::Order>,
        /// Directory of the daemon's state
        #[arg(long, global = true, value_name = "DIRECTORY", value_hint = ValueHint::DirPath,
              default_value = run::STATE_DIRECTORY)]
        state: PathBuf,
    },
    /// Have the running daemon read its configuration again
    Reload,
    /// Say whom another policy would have throttled, on recorded or made-up days
    Replay(replay::Options),
    /// Lift every verdict and rule at once and put back what stood there, until `on`
    Off {
        /// Directory of the daemon's state, for when it is not running
        #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath,
              default_value = run::STATE_DIRECTORY)]
        state: PathBuf,
    },
    /// Resume after `off`
    On {
        /// Directory of the daemon's state, for when it is not running
        #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath,
              default_value = run::STATE_DIRECTORY)]
        state: PathBuf,
    },
}

/// What went wrong, for people; the exit code is 1, or 2 where the input was at fault.
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(error: impl ToString) -> Failure {
        Failure {
            message: error.to_string(),
            code: 1,
        }
    }

    fn input(error: impl ToString) -> Failure {
        Failure {
            message: error.to_string(),
            code: 2,
        }
    }
}

/// Runs the verb; errors go to standard error.
pub fn main(arguments: Arguments) -> ExitCode {
    let result = match arguments.verb {
        Verb::Run { config, state } => run::run(config, &state),
        Verb::Status { json } => status::status(json),
        Verb::Flows { user, json } => flows::flows(user.as_deref(), json),
        Verb::Top(options) => top::top(&options),
        Verb::Explain { user, json } => explain::explain(&user, json),
        Verb::Check { file } => check::check(&file),
        Verb::CheckConfig { file } => check_config::check_config(&file),
        Verb::Grant(order) => grant::grant(order),
        Verb::Grants { json } => grant::grants(json),
        Verb::Revoke { user } => grant::revoke(&user),
        Verb::Sensor { cgroup, seconds } => sensor::sensor(&cgroup, seconds),
        Verb::HoldTable => hold::hold(),
        Verb::Worker { work } => worker::worker(&work),
        Verb::Lists { order, state } => lists::lists(order, &state),
        Verb::Reload => reload::reload(),
        Verb::Replay(options) => replay::replay(&options),
        Verb::Off { state } => off::off(&state),
        Verb::On { state } => off::on(&state),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            answer::complain(format_args!("hubwarden: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}

/// A runtime for one thread, which is all that anything here needs.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Account look-ups only; each thread costs memory.
        .max_blocking_threads(4)
        .build()
        .map_err(Failure::new)
}
