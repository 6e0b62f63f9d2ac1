//! `hubwarden check-config`.

use super::Failure;
use crate::config::{Config, ConfigError};
use std::path::Path;

pub(super) fn check_config(file: &Path) -> Result<(), Failure> {
    match Config::load(file) {
        Ok(config) => {
            println!("{}: good, {} mode", file.display(), config.mode);
            Ok(())
        }
        Err(error) => {
            // One line a problem and nothing around it, as compilers and editors have it.
            eprintln!("{error}");
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
