//! What outlives the process: the tables, and a small file with all else that the next process needs.
//!
//! The tables' entries are in files of a tmpfs, one for each worker and family. Nothing has to be
//! written when the process ends, so it may end in any way. The next process makes files of its own
//! and copies into them what is valid of the old ones ([`adopt`]): so the size of the tables, the
//! number of workers and the keys may differ, and a process that dies while it takes over has lost
//! nothing. Only when it forwards packets does it remove the old files ([`Kept::settle`]).
//!
//! ```text
//! DIRECTORY/lock            locked by the process whose tables these are
//!           7.json          its state: keys, clock, drains, MAC addresses
//!           7-0-v4.table    the entries of worker 0, IPv4
//!           7-0-v6.table    ... 7 is the generation: each process has the next one
//! ```
//!
//! A generation counts once its state is there, which is written when its tables are complete.

mod adopt;
mod keeper;
mod state;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use nix::fcntl::{Flock, FlockArg};
use pipeline::wire::family::Version;

use crate::config::Config;
use crate::sys::kept_memory::{self, Made};

pub use adopt::{Adopted, adopt};
pub use keeper::Keeper;
pub use state::{Owner, Secrets, State};

/// The time between two tries to lock the directory.
const RETRY: Duration = Duration::from_millis(5);

/// Why tables cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory, or a file in it, cannot be used.
    #[error("table.directory: {}: {source}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Others can get at the directory.
    #[error(
        "table.directory: {} {what}; expected a directory of this process's user with mode 0700",
        path.display()
    )]
    Unprotected {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has its tables there.
    #[error(
        "table.directory: another process has its tables in {}; expected another directory or \
         another eal.file_prefix for each process of a host",
        .0.display()
    )]
    InUse(PathBuf),
    /// There is no room for the tables.
    #[error(
        "table.directory: no room for {} MiB of tables in {}; enlarge it (mount -o \
         remount,size=...), lower table.max_connections, or set table.keep = false",
        bytes >> 20,
        path.display()
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// What the tables take.
        bytes: u64,
    },
}

/// What an earlier process has left.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Tables that this process takes over.
    State(Box<State>),
    /// What it does not take over, and why.
    Refused(String),
}

/// The directory of a process, with what an earlier one has left there.
#[derive(Debug)]
pub struct Kept {
    directory: PathBuf,
    lock: Option<Flock<File>>,
    owner: Owner,
    /// Whether all that is found is passed over.
    forgets: bool,
    /// This process's generation.
    generation: u64,
    /// The generation that is taken over, and its state.
    found: (Option<u64>, Found),
    /// Whether this process's files stay when this value is dropped.
    stays: bool,
}

impl Kept {
    /// Looks at the directory that a configuration names, and makes it if it is not there. Another
    /// process may still forward packets and write there. Returns `None` if nothing is to be kept.
    ///
    /// With `forgets` nothing that is found is taken over.
    ///
    /// # Errors
    /// If the directory cannot be used, or others can get at it.
    pub fn open(config: &Config, forgets: bool) -> Result<Option<Self>, Error> {
        if !config.table.keep {
            return Ok(None);
        }
        let directory = config.table.directory.clone();
        make_directory(&directory)?;
        let failed = failed(&directory);
        let owner = Owner::of(config).map_err(&failed)?;
        let generation = 1 + generations(&directory).map_err(&failed)?.first().unwrap_or(&0);
        let found = (None, Found::Nothing);
        let mut kept =
            Self { directory, lock: None, owner, forgets, generation, found, stays: false };
        kept.look()?;
        Ok(Some(kept))
    }

    /// Waits until no other process has its tables here, and looks again at what it has left.
    ///
    /// # Errors
    /// If another process has them for longer than `wait`.
    pub fn lock(&mut self, wait: Duration) -> Result<(), Error> {
        let path = self.directory.join("lock");
        let failed = failed(&path);
        let start = Instant::now();
        loop {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(&failed)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    self.lock = Some(lock);
                    return self.look();
                }
                Err((_, nix::Error::EWOULDBLOCK)) if start.elapsed() < wait => {
                    std::thread::sleep(RETRY);
                }
                Err((_, nix::Error::EWOULDBLOCK)) => {
                    return Err(Error::InUse(self.directory.clone()));
                }
                Err((_, error)) => return Err(failed(error.into())),
            }
        }
    }

    /// Finds the newest generation that this process can take over.
    fn look(&mut self) -> Result<(), Error> {
        self.found = (None, Found::Nothing);
        for generation in generations(&self.directory).map_err(failed(&self.directory))? {
            let path = self.state_file(generation);
            if generation == self.generation || !path.exists() {
                continue;
            }
            let refused = match State::read(&path) {
                _ if self.forgets => "--forget".to_owned(),
                Err(error) => format!("{}: {error}", path.display()),
                Ok(state) => match self.owner.refuses(&state.owner) {
                    None => {
                        self.found = (Some(generation), Found::State(Box::new(state)));
                        return Ok(());
                    }
                    Some(why) => why,
                },
            };
            if matches!(self.found.1, Found::Nothing) {
                self.found.1 = Found::Refused(refused);
            }
        }
        Ok(())
    }

    /// Returns what an earlier process has left.
    pub fn found(&self) -> &Found {
        &self.found.1
    }

    /// Returns the state that this process goes on with.
    pub fn state(&self) -> Option<&State> {
        match &self.found.1 {
            Found::State(state) => Some(state),
            Found::Nothing | Found::Refused(_) => None,
        }
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns this process's generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns an empty state of this process.
    pub fn new_state(&self) -> State {
        State { owner: self.owner.clone(), ..State::default() }
    }

    /// Makes the memory of all tables, of so many bytes by worker and family. Takes a while where the
    /// kernel has to make huge pages; another process may forward packets meanwhile.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn make_tables(&self, sizes: &[[usize; 2]]) -> Result<Vec<[Option<MmapMut>; 2]>, Error> {
        let worker = |number: usize, sizes: [usize; 2]| -> io::Result<[Made; 2]> {
            let [v4, v6] = [Version::V4, Version::V6].map(|version| {
                kept_memory::make(&self.table_file(number, version), sizes[version as usize])
            });
            Ok([v4?, v6?])
        };
        let made: io::Result<Vec<_>> = std::thread::scope(|scope| {
            let start = |(number, &sizes)| scope.spawn(move || worker(number, sizes));
            let threads: Vec<_> = sizes.iter().enumerate().map(start).collect();
            let end = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(end).collect()
        });
        let made = made.map_err(|source| self.no_tables(source, sizes))?;
        if made.iter().flatten().any(|made| !made.is_huge) {
            let directory = self.directory.display();
            tracing::warn!(
                %directory,
                "tables are in pages of 4 KiB, with which a packet takes up to a third longer at a \
                 million connections; mount -t tmpfs -o huge=always,mode=0700 tmpfs DIRECTORY, and \
                 name it in table.directory"
            );
        }
        Ok(made.into_iter().map(|worker| worker.map(|made| Some(made.memory))).collect())
    }

    fn no_tables(&self, source: io::Error, sizes: &[[usize; 2]]) -> Error {
        let path = self.directory.clone();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::ENOMEM) => {
                let bytes = sizes.iter().flatten().map(|&bytes| kept_memory::rounded(bytes) as u64);
                Error::NoRoom { path, bytes: bytes.sum() }
            }
            _ => Error::File { path, source },
        }
    }

    /// Removes this process's tables, so that they can be made again.
    pub fn remove_tables(&self) {
        self.remove(self.generation);
    }

    /// Removes what earlier generations have left. Called once this process forwards packets.
    pub fn settle(&self) {
        for generation in generations(&self.directory).unwrap_or_default() {
            if generation != self.generation {
                self.remove(generation);
            }
        }
    }

    /// Removes the files of a generation, its state first: without it the tables do not count.
    fn remove(&self, generation: u64) {
        // What cannot be removed is removed by the next process.
        let _ = std::fs::remove_file(self.state_file(generation));
        for path in files(&self.directory).unwrap_or_default() {
            if generation_of(&path) == Some(generation) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn state_file(&self, generation: u64) -> PathBuf {
        self.directory.join(format!("{generation}.json"))
    }

    fn table_file(&self, worker: usize, version: Version) -> PathBuf {
        let family = match version {
            Version::V4 => "v4",
            Version::V6 => "v6",
        };
        self.directory.join(format!("{}-{worker}-{family}.table", self.generation))
    }

    /// Returns the table files of the generation that is taken over.
    fn found_tables(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = files(&self.directory)?;
        files.retain(|path| {
            path.extension().is_some_and(|extension| extension == "table")
                && self.found.0.is_some()
                && generation_of(path) == self.found.0
        });
        files.sort();
        Ok(files)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.stays {
            // A start that failed leaves what it has found.
            self.remove(self.generation);
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::File { path: path.clone(), source }
}

/// Makes a directory that nobody else can get at, or checks that one is like that.
fn make_directory(directory: &Path) -> Result<(), Error> {
    let failed = failed(directory);
    if let Some(above) = directory.parent() {
        DirBuilder::new().recursive(true).create(above).map_err(&failed)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let attributes = directory.symlink_metadata().map_err(&failed)?;
    let user = nix::unistd::geteuid().as_raw();
    let what = match attributes.mode() & 0o777 {
        _ if !attributes.is_dir() => "is not a directory".to_owned(),
        _ if attributes.uid() != user => format!("belongs to user {}", attributes.uid()),
        mode if mode & 0o077 != 0 => format!("has mode {mode:04o}"),
        _ => return Ok(()),
    };
    Err(Error::Unprotected { path: directory.to_path_buf(), what })
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    directory.read_dir()?.map(|entry| Ok(entry?.path())).collect()
}

/// Returns the generation of a file: the number that its name begins with.
fn generation_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.split(['-', '.']).next()?.parse().ok()
}

/// Returns the generations in a directory, newest first.
fn generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut all: Vec<_> = files(directory)?.iter().filter_map(|path| generation_of(path)).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests;
