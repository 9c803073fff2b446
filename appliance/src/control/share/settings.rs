//! What sharing needs to know.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::entry::Hash;
use crate::config::StoreServer;
use crate::control::protected::{self, Error};

/// The longest password file in bytes.
const LONGEST: u64 = 1024;

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Reads a password file: its first line. The file must be protected as a key file is.
    ///
    /// # Errors
    /// If the file cannot be read, is not protected, or is not one line of text.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = protected::read(path, "password file", LONGEST)?;
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match !line.is_empty() && !line.iter().any(u8::is_ascii_control) {
            true => Ok(Self(line.to_vec().into())),
            false => Err(Error::Refused {
                path: path.to_owned(),
                what: "has no password; expected a single line with it".to_owned(),
            }),
        }
    }

    /// Returns the password.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Formats nothing of it.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The store, and what is shared through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the store is.
    pub server: StoreServer,
    /// The user; `None` is the server's default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// The number of the database.
    pub database: u16,
    /// The time from one exchange to the next.
    pub interval: Duration,
    /// The services and families that are shared.
    pub hashes: Vec<Hash>,
}
