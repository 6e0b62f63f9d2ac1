//! What a scraper over TCP proves itself by: any user of a node can connect to its loopback.

use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a token, at least and at most.
const SHORTEST: usize = 16;
const LONGEST: u64 = 4096;

/// A bearer token (RFC 6750), of which only the digest is kept: comparing digests tells nothing of
/// how much of a guess was right.
#[derive(Debug)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// Reads one: the file's text without white space around it.
    ///
    /// # Errors
    /// It is not there, others may read or write it, or it is too short to be a secret.
    pub fn read(path: &Path) -> io::Result<Token> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if found.mode() & 0o037 != 0 || found.uid() != nix::unistd::geteuid().as_raw() {
            let told = format!(
                "owner {} and mode {:o} let others read or write it; make it root's: chown root, chmod 640",
                found.uid(),
                found.mode() & 0o777
            );
            return Err(io::Error::other(told));
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        if text.trim().len() < SHORTEST {
            let told =
                format!("it has fewer than {SHORTEST} bytes; `openssl rand -hex 32` makes a token");
            return Err(io::Error::other(told));
        }
        Ok(Token::of(text.trim()))
    }

    pub fn of(text: &str) -> Token {
        Token(Sha256::digest(text).into())
    }

    /// Whether an `Authorization` has it.
    pub fn is_in(&self, authorization: Option<&HeaderValue>) -> bool {
        let value = authorization.and_then(|value| value.to_str().ok());
        let given = value.and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|given| Token::of(given.trim()).0 == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_that_others_may_read_or_that_is_short_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, mode, remedy) in [
            ("0123456789abcdef\n", 0o600, None),
            ("0123456789abcdef\n", 0o640, None),
            ("0123456789abcdef\n", 0o644, Some("chmod 640")),
            ("0123456789abcdef\n", 0o660, Some("chmod 640")),
            ("0123456789abcde\n", 0o600, Some("openssl rand")),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Token::read(&path).err().map(|error| error.to_string());
            assert_eq!(error.is_some(), remedy.is_some(), "{mode:o}: {error:?}");
            assert!(
                error
                    .unwrap_or_default()
                    .contains(remedy.unwrap_or_default())
            );
        }
    }
}
