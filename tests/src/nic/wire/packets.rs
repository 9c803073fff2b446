//! Kernel interfaces: the taps of a guest, or the interfaces that real ports are cabled to.

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};

use super::{LONGEST, TAKES, Wire};
use crate::lab::wan::raw_socket;
use crate::scenario::Side;

/// Offset of a VLAN tag in a frame.
const TAG: usize = 12;

/// A raw socket on an interface for each side.
#[derive(Debug)]
pub struct Packets {
    sockets: [OwnedFd; 2],
    buffer: Vec<u8>,
}

impl Packets {
    /// Opens the interfaces, inside and outside, of the current network namespace.
    ///
    /// # Errors
    /// If there is no such interface, or this is not root.
    pub fn open(interfaces: [&str; 2]) -> io::Result<Self> {
        let [inside, outside] = interfaces.map(|interface| raw_socket(interface, true));
        Ok(Self { sockets: [inside?, outside?], buffer: vec![0; LONGEST] })
    }
}

/// Puts the VLAN tag back that the kernel has taken off a frame.
fn with_tag(frame: &[u8], auxiliary: Option<&[u8]>) -> Vec<u8> {
    let mut whole = frame.to_vec();
    let Some(auxiliary) = auxiliary.filter(|a| a.len() >= size_of::<libc::tpacket_auxdata>())
    else {
        return whole;
    };
    // `tpacket_auxdata`: status, two lengths, two offsets, TCI and TPID, in the machine's byte order.
    let status = auxiliary.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let word = |at: usize| u16::from_ne_bytes([auxiliary[at], auxiliary[at + 1]]);
    if status & libc::TP_STATUS_VLAN_VALID != 0 && whole.len() >= TAG {
        let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { word(18) } else { 0x8100 };
        let tag = [tpid.to_be_bytes(), word(16).to_be_bytes()].concat();
        whole.splice(TAG..TAG, tag);
    }
    whole
}

/// Waits until a socket is ready; returns whether it is.
fn ready(socket: &OwnedFd, flags: PollFlags, wait: Duration) -> io::Result<bool> {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis() as u64;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout) {
            Ok(0) if Instant::now() >= end => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Wire for Packets {
    fn send(&mut self, side: Side, frame: &[u8]) -> io::Result<()> {
        let (socket, start) = (&self.sockets[side as usize], Instant::now());
        loop {
            match send(socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Ok(()),
                // The interface's queue is full, or its link is down.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENETDOWN | Errno::EINTR)
                    if start.elapsed() < TAKES =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&mut self, side: Side, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let socket = &self.sockets[side as usize];
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !ready(socket, PollFlags::POLLIN, left)? {
                return Ok(None);
            }
            let mut control = nix::cmsg_space!(libc::tpacket_auxdata);
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let message =
                match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                    Ok(message) => message,
                    // The link went down: the kernel says so once.
                    Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
                    Err(error) => return Err(error.into()),
                };
            let length = message.bytes;
            let auxiliary = message.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Unknown(unknown)
                    if unknown.cmsg_header.cmsg_type == libc::PACKET_AUXDATA =>
                {
                    Some(unknown.data_bytes)
                }
                _ => None,
            });
            return Ok(Some(with_tag(&self.buffer[..length], auxiliary.as_deref())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_back_where_it_was() {
        let frame: Vec<u8> = (0..20).collect();
        let mut auxiliary = [0; size_of::<libc::tpacket_auxdata>()];
        assert_eq!(with_tag(&frame, Some(&auxiliary)), frame);
        assert_eq!(with_tag(&frame, None), frame);
        let status = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
        auxiliary[..4].copy_from_slice(&status.to_ne_bytes());
        auxiliary[16..18].copy_from_slice(&7u16.to_ne_bytes());
        auxiliary[18..20].copy_from_slice(&0x88a8u16.to_ne_bytes());
        let tagged = with_tag(&frame, Some(&auxiliary));
        assert_eq!(tagged[..12], frame[..12]);
        assert_eq!(tagged[12..16], [0x88, 0xa8, 0, 7]);
        assert_eq!(tagged[16..], frame[12..]);
    }
}
