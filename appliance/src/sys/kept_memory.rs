//! Memory that outlives the process: files of a tmpfs, in huge pages where the kernel has them.
//!
//! All pages of a file are allocated when it is made. Otherwise a tmpfs that fills up later would end the
//! process with SIGBUS, at a packet.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapMut, MmapOptions};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Asks the kernel to put a range into huge pages now, whatever the mount's `huge=` says (Linux 6.1 and
/// later).
const MADV_COLLAPSE: libc::c_int = 25;
/// How often a place for a mapping is looked for that begins at a huge page.
const TRIES: usize = 4;

/// The size of a tmpfs and what is free of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What is free.
    pub free: u64,
}

/// Why a directory is no place for memory that outlives the process.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The file system of the nearest directory that exists is no tmpfs.
    #[error("{} is not on a tmpfs", .0.display())]
    NotMemory(PathBuf),
    /// The file system cannot be examined.
    #[error("{}: {source}", path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Returns the room on the tmpfs where a directory is, or is going to be.
///
/// # Errors
/// If it is no tmpfs.
pub fn room(directory: &Path) -> Result<Room, Unfit> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let unknown = |error: nix::Error| Unfit::Unknown {
        path: existing.to_path_buf(),
        source: io::Error::from(error),
    };
    let found = statfs(existing).map_err(unknown)?;
    if found.filesystem_type() != TMPFS_MAGIC {
        return Err(Unfit::NotMemory(existing.to_path_buf()));
    }
    let block = found.block_size().unsigned_abs();
    let bytes = |blocks: u64| match found.blocks() {
        // A tmpfs without a limit.
        0 => u64::MAX,
        _ => blocks.saturating_mul(block),
    };
    Ok(Room { total: bytes(found.blocks()), free: bytes(found.blocks_available()) })
}

/// Returns the bytes that a file for so many takes.
pub fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes < HUGE { 4096 } else { HUGE })
}

/// New memory, and whether it is in huge pages, as far as it has a whole one.
#[derive(Debug)]
pub struct Made {
    /// Zeros, all of them allocated.
    pub memory: MmapMut,
    /// Whether it is in huge pages.
    pub is_huge: bool,
}

/// Makes a file of at least so many bytes, readable by this process's user only.
///
/// # Errors
/// If there is such a file, or no room for it.
pub fn make(path: &Path, bytes: usize) -> io::Result<Made> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let size = rounded(bytes);
    let made = fallocate(&file, FallocateFlags::empty(), 0, size as libc::off_t)
        .map_err(io::Error::from)
        .and_then(|()| map_aligned(&file, size));
    match made {
        Ok(mut memory) => {
            let is_huge = size < HUGE || collapse(&mut memory);
            Ok(Made { memory, is_huge })
        }
        Err(error) => {
            // What cannot be removed now is removed by the next start.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

/// Maps a file that an earlier process has left, for reading.
///
/// # Errors
/// If it cannot be opened or mapped.
pub fn open(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the directory and the file are accessible to this process's user only, and the process
    // that wrote the file has ended, or waits to be replaced: the caller holds the directory's lock.
    // Nothing makes the file shorter.
    unsafe { Mmap::map(&file) }
}

/// Maps a file such that it begins at a huge page, if a place for that is found.
fn map_aligned(file: &File, size: usize) -> io::Result<MmapMut> {
    let mut fillers = Vec::new();
    loop {
        // SAFETY: the file is new and accessible to this process's user only; nobody else knows it
        // until the process has ended. Nothing makes it shorter.
        let memory = unsafe { MmapOptions::new().len(size).map_mut(file) }?;
        let beyond = memory.as_ptr().addr() % HUGE;
        if size < HUGE || beyond == 0 || fillers.len() == TRIES {
            return Ok(memory);
        }
        // The kernel places a mapping as high as it can. With something in the way it is lower.
        drop(memory);
        fillers.push(MmapOptions::new().len(beyond).map_anon()?);
    }
}

/// Puts memory into huge pages. Returns whether all of it is.
fn collapse(memory: &mut MmapMut) -> bool {
    // SAFETY: the range is this mapping. The advice changes which pages hold it, not its content.
    unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), MADV_COLLAPSE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    #[test]
    fn what_is_written_is_there_for_the_next_process() {
        let directory = directory();
        let path = directory.path().join("table");
        for bytes in [5_000, 5 * HUGE + 1] {
            let mut made = make(&path, bytes).unwrap();
            assert!(made.memory.len() >= bytes && made.memory.iter().all(|&byte| byte == 0));
            assert!(make(&path, bytes).is_err(), "made again over one in use");
            made.memory[bytes - 1] = 7;
            drop(made);
            let kept = open(&path).unwrap();
            assert_eq!((kept.len(), kept[bytes - 1]), (rounded(bytes), 7));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn memory_of_several_huge_pages_begins_at_one() {
        let directory = directory();
        // Odd mappings in between, as a process has them.
        let made: Vec<_> = (0..8)
            .map(|number| {
                let other = MmapOptions::new().len(4096 * (number + 1)).map_anon().unwrap();
                let made = make(&directory.path().join(number.to_string()), 3 * HUGE).unwrap();
                (made, other)
            })
            .collect();
        let aligned = made.iter().filter(|(made, _)| made.memory.as_ptr().addr() % HUGE == 0);
        assert!(aligned.count() >= 7);
    }

    #[test]
    fn all_of_it_is_allocated_at_once_or_it_is_refused() {
        let directory = directory();
        let before = room(directory.path()).unwrap();
        let path = directory.path().join("large");
        let made = make(&path, 16 * HUGE).unwrap();
        let after = room(directory.path()).unwrap();
        assert!(before.free - after.free >= 16 * HUGE as u64 / 2, "{before:?} {after:?}");
        drop(made);
        std::fs::remove_file(&path).unwrap();
        let error = make(&path, before.total as usize + HUGE).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn other_file_systems_are_no_place() {
        assert!(matches!(room(Path::new("/proc/none/there")), Err(Unfit::NotMemory(_))));
        assert!(room(Path::new("/dev/shm/is/not/there")).is_ok());
    }
}
