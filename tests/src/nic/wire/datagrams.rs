//! QEMU's `-netdev dgram` over Unix sockets: a datagram is a frame, and none is lost.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{LONGEST, TAKES, Wire};
use crate::scenario::Side;

/// A socket for each side.
#[derive(Debug)]
pub struct Datagrams {
    sockets: [UnixDatagram; 2],
    /// QEMU's sockets.
    ends: [PathBuf; 2],
    buffer: Vec<u8>,
}

impl Datagrams {
    /// Makes this process's sockets in a directory, which QEMU makes its own in.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let bind = |side| {
            let socket = UnixDatagram::bind(own(directory, side))?;
            socket.set_write_timeout(Some(TAKES))?;
            Ok::<_, io::Error>(socket)
        };
        let sockets = [bind(Side::Inside)?, bind(Side::Outside)?];
        let ends = Side::ALL.map(|side| qemus(directory, side));
        Ok(Self { sockets, ends, buffer: vec![0; LONGEST] })
    }

    /// Returns QEMU's option for the backend `id` of a side.
    #[must_use]
    pub fn netdev(directory: &Path, id: &str, side: Side) -> String {
        let (local, remote) = (qemus(directory, side), own(directory, side));
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            local.display(),
            remote.display()
        )
    }
}

fn own(directory: &Path, side: Side) -> PathBuf {
    directory.join(format!("{}.wire", side.name()))
}

fn qemus(directory: &Path, side: Side) -> PathBuf {
    directory.join(format!("{}.card", side.name()))
}

impl Wire for Datagrams {
    fn send(&mut self, side: Side, frame: &[u8]) -> io::Result<()> {
        self.sockets[side as usize].send_to(frame, &self.ends[side as usize]).map(drop)
    }

    fn receive(&mut self, side: Side, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let socket = &self.sockets[side as usize];
        // A time-out of zero would be none.
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match socket.recv(&mut self.buffer) {
            Ok(length) => Ok(Some(self.buffer[..length].to_vec())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_a_frame_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let mut wire = Datagrams::new(directory.path()).unwrap();
        let card = UnixDatagram::bind(qemus(directory.path(), Side::Outside)).unwrap();
        wire.send(Side::Outside, &[7; 9000]).unwrap();
        let mut buffer = [0; LONGEST];
        assert_eq!(card.recv(&mut buffer).unwrap(), 9000);
        card.send_to(&[9; 60], own(directory.path(), Side::Outside)).unwrap();
        let wait = Duration::from_secs(5);
        assert_eq!(wire.receive(Side::Outside, wait).unwrap(), Some(vec![9; 60]));
        assert_eq!(wire.receive(Side::Inside, Duration::ZERO).unwrap(), None);
    }
}
