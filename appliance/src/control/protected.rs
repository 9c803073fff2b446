//! Reads files with secrets: they must belong to the process's user or to root, and group and
//! others must have no access.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// The reason why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {source}; expected a {expected}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What kind of file was expected.
        expected: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The file is not protected, not a regular file, too large, or has no secret.
    #[error("{}: {what}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        what: String,
    },
}

/// Reads a file of at most `longest` bytes; `expected` says what it is, for errors. The text is
/// overwritten when it is dropped.
///
/// # Errors
/// If the file cannot be read, is not protected, or is too large.
pub fn read(
    path: &Path,
    expected: &'static str,
    longest: u64,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), expected, source };
    let refused = |what| Error::Refused { path: path.to_owned(), what };
    // The file is opened before its attributes are checked, because the path could be replaced
    // in between. Opening a FIFO must not block.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let user = nix::unistd::geteuid().as_raw();
    Protection::of(&metadata).check(user, expected).map_err(refused)?;
    let text = take(file, longest).map_err(failed)?;
    if text.len() as u64 > longest {
        return Err(refused(format!("has more than {longest} bytes; expected a {expected}")));
    }
    Ok(text)
}

/// Reads one byte more than `longest` at most.
fn take(file: File, longest: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // A vector that grows leaves its earlier bytes behind.
    let expected = file.metadata()?.len().min(longest) as usize + 2;
    let mut text = Zeroizing::new(Vec::with_capacity(expected));
    file.take(longest + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The attributes that protect a file from others.
#[derive(Clone, Copy, Debug)]
struct Protection {
    regular: bool,
    owner: u32,
    mode: u32,
}

impl Protection {
    fn of(metadata: &Metadata) -> Self {
        let (owner, mode) = (metadata.uid(), metadata.mode());
        Self { regular: metadata.is_file(), owner, mode }
    }

    fn check(self, user: u32, expected: &str) -> Result<(), String> {
        let Self { regular, owner, mode } = self;
        let permissions = mode & 0o7777;
        if !regular {
            Err(format!("is not a regular file; expected a {expected}"))
        } else if owner != user && owner != 0 {
            Err(format!(
                "belongs to user {owner}; expected it to belong to user {user}, as whom this \
                 process runs, or to root"
            ))
        } else if permissions & OTHERS != 0 {
            Err(format!(
                "has mode {permissions:04o}, so others can get at it; expected no access for \
                 group and others, such as mode 0600"
            ))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processs_user_and_root_own_secrets() {
        let owned_by = |owner| Protection { regular: true, owner, mode: 0o100_600 };
        assert!(owned_by(0).check(0, "file").is_ok());
        assert!(owned_by(0).check(1000, "file").is_ok());
        assert!(owned_by(1000).check(1000, "file").is_ok());
        // Root can read it, but its owner could replace the secret.
        for user in [0, 1001] {
            let error = owned_by(1000).check(user, "file").unwrap_err();
            assert!(error.contains("belongs to user 1000; expected"), "{error}");
        }
    }
}
