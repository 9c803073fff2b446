//! A raw socket on one interface, read and written in batches.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, MultiHeaders, SockFlag, SockType, recvmmsg, sendmmsg,
    setsockopt, socket, sockopt,
};

use super::frame::{Frame, Mac};

/// Frames per system call.
pub const BATCH: usize = 64;
/// Bytes of a receive buffer: a frame of 1500 bytes of IP, and some more.
const BUFFER: usize = 2048;
/// Bytes that the kernel may hold for the socket, each way.
const KERNEL_BUFFER: usize = 64 << 20;
/// Spare receive buffers kept.
const SPARE: usize = 4096;

/// Receive buffers that are used again.
#[derive(Debug, Default)]
pub struct Pool(Vec<Frame>);

impl Pool {
    fn take(&mut self) -> Frame {
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        buffer
    }

    fn put(&mut self, frame: Frame) {
        if self.0.len() < SPARE && frame.capacity() >= BUFFER {
            self.0.push(frame);
        }
    }
}

/// What a batch of receiving brought.
#[derive(Debug, Default, Clone, Copy)]
pub struct Received {
    /// Frames taken from the socket, truncated ones included.
    pub taken: usize,
    /// Frames that were longer than a buffer, left out.
    pub truncated: u64,
}

/// A raw socket bound to one interface.
pub struct Port {
    socket: OwnedFd,
    mac: Mac,
    headers: MultiHeaders<()>,
    buffers: Vec<Frame>,
}

impl Port {
    /// Opens a socket on an interface of the current network namespace.
    pub fn open(interface: &str) -> Result<Self> {
        let (_, mac) = find(interface)?;
        let socket = raw_socket(interface, false)?;
        setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER)?;
        setsockopt(&socket, sockopt::SndBufForce, &KERNEL_BUFFER)?;
        let headers = MultiHeaders::preallocate(BATCH, None);
        Ok(Self { socket, mac, headers, buffers: Vec::with_capacity(BATCH) })
    }

    /// Hardware address of the interface.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// For polling.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes up to [`BATCH`] frames that wait, without blocking.
    pub fn receive(&mut self, pool: &mut Pool, mut each: impl FnMut(Frame)) -> Result<Received> {
        while self.buffers.len() < BATCH {
            self.buffers.push(pool.take());
        }
        let mut lengths = [0; BATCH];
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let fd = self.socket.as_raw_fd();
        // MSG_TRUNC: the length told is the frame's even where it exceeds the buffer.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let results = match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(results) => results,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return Ok(Received::default()),
            Err(error) => return Err(error.into()),
        };
        let mut received = Received::default();
        for (length, message) in lengths.iter_mut().zip(results) {
            *length = message.bytes;
            received.taken += 1;
        }
        for (mut frame, length) in self.buffers.drain(..received.taken).zip(lengths) {
            if length > BUFFER {
                received.truncated += 1;
                pool.put(frame);
            } else {
                frame.truncate(length);
                each(frame);
            }
        }
        Ok(received)
    }

    /// Sends all frames; returns how many the interface refused.
    pub fn send(&mut self, frames: &mut VecDeque<Frame>, pool: &mut Pool) -> u64 {
        const NO_ADDRESSES: [Option<()>; BATCH] = [None; BATCH];
        const NO_CONTROL: [ControlMessage<'static>; 0] = [];
        let mut refused = 0;
        while !frames.is_empty() {
            let slices: Vec<_> = frames.iter().take(BATCH).map(|f| [IoSlice::new(f)]).collect();
            let fd = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT;
            let headers = &mut self.headers;
            let done = match sendmmsg(fd, headers, &slices, NO_ADDRESSES, NO_CONTROL, flags) {
                Ok(results) => results.count(),
                Err(Errno::EINTR) => 0,
                Err(_) => {
                    refused += 1;
                    1
                }
            };
            drop(slices);
            frames.drain(..done).for_each(|frame| pool.put(frame));
        }
        refused
    }

    /// Frames that the kernel dropped since the last call because nobody read them.
    pub fn dropped_by_kernel(&self) -> u64 {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `statistics` is a live `tpacket_stats` and `length` its size, so the kernel
        // writes within it; the descriptor is open as long as `self.socket`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result == 0 { u64::from(statistics.tp_drops) } else { 0 }
    }
}

/// Opens a raw socket on an interface of the current network namespace, which does not hear what leaves
/// by it. With `auxiliary` the kernel tells of each frame what it has taken off, in a control message
/// of type `PACKET_AUXDATA`.
pub fn raw_socket(interface: &str, auxiliary: bool) -> Result<OwnedFd> {
    let (index, _) = find(interface)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Protocol 0: nothing is received before the socket is bound to its interface.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    let yes: libc::c_int = 1;
    set_packet_option(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, yes)?;
    if auxiliary {
        set_packet_option(socket.as_fd(), libc::PACKET_AUXDATA, yes)?;
    }
    bind(socket.as_fd(), index)?;
    Ok(socket)
}

/// Index and hardware address of an interface.
fn find(interface: &str) -> Result<(i32, Mac)> {
    for entry in getifaddrs()?.filter(|entry| entry.interface_name == interface) {
        let link = entry.address.as_ref().and_then(|address| address.as_link_addr());
        if let Some((index, mac)) = link.and_then(|l| Some((l.ifindex(), l.addr()?))) {
            return Ok((index as i32, Mac(mac)));
        }
    }
    Err(Error::new(ErrorKind::NotFound, "no such interface in this network namespace"))
}

fn bind(socket: BorrowedFd<'_>, index: i32) -> Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a whole `sockaddr_ll` that outlives the call, `length` is its size,
    // and the kernel only reads it; the descriptor is borrowed, so open.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(result).map(drop).map_err(Error::from)
}

fn set_packet_option(socket: BorrowedFd<'_>, option: i32, value: libc::c_int) -> Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is a whole `c_int` that outlives the call, `length` is its size, and the
    // kernel only reads it; the descriptor is borrowed, so open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    Errno::result(result).map(drop).map_err(Error::from)
}
