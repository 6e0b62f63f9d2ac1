//! `hubwarden check-config`.

use super::Failure;
use super::answer::{complain, say};
use crate::config::{Config, ConfigError};
use std::path::Path;

pub(super) fn check_config(file: &Path) -> Result<(), Failure> {
    match Config::load(file) {
        Ok(config) => {
            let mut lines = vec![format!("{}: good, {} mode", file.display(), config.mode)];
            lines.extend(config.advice().iter().map(|line| format!("note: {line}")));
            say(&lines.join("\n"))
        }
        Err(error) => {
            // One line a problem and nothing around it, as compilers and editors have it.
            complain(&error);
            let count = match &error {
                ConfigError::Wrong { problems, .. } if problems.len() > 1 => {
                    format!("{} problems", problems.len())
                }
                _ => "1 problem".to_owned(),
            };
            Err(Failure::input(format!("{count} in {}", file.display())))
        }
    }
}
