//! What the kernel can tell of a port: that there is something to receive. DPDK has no call for
//! it on net_af_packet, whose queues are sockets of this process; they are found by the
//! interface that they are bound to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::port::Port;

/// The driver whose queues are packet sockets.
const DRIVER: &str = "net_af_packet";

/// More bells than that are not listened for.
const MOST: usize = 16;

/// A socket that a port receives from. It rings as long as a frame waits.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// Waits until one rings, or for so long; whether one rang. It may ring for something else
    /// than a packet: an error, such as that the link went down, rings until something is sent. It
    /// is left there, for by it the driver knows not to wait for good for room in its ring.
    pub fn listen(bells: &[Self], time: Duration) -> bool {
        let mut polled = ArrayVec::<PollFd<'_>, MOST>::new();
        for bell in bells.iter().take(MOST) {
            polled.push(PollFd::new(bell.0.as_fd(), PollFlags::POLLIN));
        }
        // What does not let itself be listened for is no better than one that rings for nothing.
        ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None) != Ok(0)
    }
}

impl Port {
    /// What rings when there is something to receive; nothing where that is not known of every
    /// queue of the port.
    pub fn bells(&self) -> Vec<Bell> {
        let Ok(Some(interface)) = self.kernel_interface(DRIVER) else { return Vec::new() };
        sockets(interface).unwrap_or_else(|error| {
            tracing::debug!(device = self.device(), %error, "rests by timer alone");
            Vec::new()
        })
    }
}

/// This process's packet sockets on an interface.
fn sockets(interface: u32) -> io::Result<Vec<Bell>> {
    let bound = bound_to(&fs::read_to_string("/proc/thread-self/net/packet")?, interface);
    let mut bells = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The descriptor of the directory itself is gone by now.
        let Ok(target) = fs::read_link(&path) else { continue };
        let inode = socket_inode(&target.to_string_lossy());
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (Some(inode), Some(number)) = (inode.filter(|inode| bound.contains(inode)), number) {
            // SAFETY: the number is that of a packet socket, which was open just now. Nothing in
            // the process but a port opens any, and what closes it is the closing of that port,
            // which the caller borrows.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            bells.insert(inode, Bell(socket.try_clone_to_owned()?));
        }
    }
    if bells.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the port's sockets are not found"));
    }
    Ok(bells.into_values().collect())
}

/// The inodes of the sockets bound to an interface, in the kernel's list of packet sockets.
fn bound_to(list: &str, interface: u32) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, _, bound, _, _, _, inode] = fields[..] else { return None };
        (bound.parse() == Ok(interface)).then(|| inode.parse().ok()).flatten()
    };
    list.lines().filter_map(inode).collect()
}

/// The inode in `socket:[1234]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn the_kernels_list_is_read() {
        let list = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                    0000000000000000 3      3    0003   7     1 0      0      41523\n\
                    0000000000000000 3      3    0000   0     0 0      0      41524\n\
                    0000000000000000 3      3    0003   71    1 0      0      41525\n";
        assert_eq!(bound_to(list, 7), [41523]);
        assert_eq!(socket_inode("socket:[41523]"), Some(41523));
        assert_eq!(socket_inode("pipe:[41523]"), None);
    }

    #[test]
    fn a_bell_ends_the_wait() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let bells = [Bell(here.into())];
        assert!(!Bell::listen(&bells, Duration::from_micros(10)));
        there.write_all(b"!").unwrap();
        let start = Instant::now();
        assert!(Bell::listen(&bells, Duration::from_secs(60)));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
