//! Receive events of a port: descriptors on which the kernel signals that there is a packet to
//! receive. A PCI device has interrupts, if VFIO passes them on. DPDK has no call for this on
//! net_af_packet, whose queues are sockets of this process; they are found by the interface they are
//! bound to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd;

use super::interrupt::Interrupt;
use super::port::Port;

/// The driver whose queues are packet sockets.
const DRIVER: &str = "net_af_packet";

/// Drivers that offer interrupts of receive queues which never came, on an emulated 82574.
const SILENT: [&str; 1] = ["net_e1000_em"];

/// The most events that are waited for at once; further ones are ignored.
const LIMIT: usize = 16;

/// An event of a port's receive queue.
#[derive(Debug)]
pub struct RxEvent {
    /// Readable as long as a frame waits, or since an interrupt.
    descriptor: OwnedFd,
    /// The interrupt, if the descriptor counts interrupts.
    counted: Option<Interrupt>,
}

impl RxEvent {
    /// Returns the event of a descriptor that is readable as long as a frame waits.
    pub(crate) fn level(descriptor: OwnedFd) -> Self {
        Self { descriptor, counted: None }
    }

    /// Makes the device signal what it receives from now on. What it has received before may not be
    /// signalled: the queue is to be polled after this, and before the wait.
    pub fn arm(&self) {
        if let Some(interrupt) = &self.counted {
            // If it fails, the wait ends by its time.
            interrupt.enable();
        }
    }

    /// Ends the signals, and forgets those that have been given.
    pub fn disarm(&self) {
        if let Some(interrupt) = &self.counted {
            interrupt.disable();
            // DPDK makes it non-blocking. The count says nothing.
            let _ = unistd::read(&self.descriptor, &mut [0; 8]);
        }
    }

    /// Waits until one of the descriptors is readable, at most for `time`. Returns whether one is.
    ///
    /// The reason may be something else than a packet: an error such as a link that went down is
    /// signalled until something is sent. The error is not taken off the socket, because the
    /// driver relies on it to not wait for room in its ring forever.
    pub fn wait_any(events: &[Self], time: Duration) -> bool {
        let mut polled = ArrayVec::<PollFd<'_>, LIMIT>::new();
        for event in events.iter().take(LIMIT) {
            polled.push(PollFd::new(event.descriptor.as_fd(), PollFlags::POLLIN));
        }
        // A failing poll counts as a false alarm: the caller then sleeps by timer.
        ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None) != Ok(0)
    }
}

impl Port {
    /// Returns the receive events of all queues of the started port; none if one queue has no known
    /// socket and no interrupt of its own.
    pub fn rx_events(&self) -> Vec<RxEvent> {
        let Ok(Some(interface)) = self.kernel_interface(DRIVER) else {
            let event = |interrupt: Interrupt| {
                let (descriptor, is_counter) = interrupt.descriptor()?;
                Some(RxEvent { descriptor, counted: is_counter.then_some(interrupt) })
            };
            if SILENT.into_iter().any(|driver| self.has_driver(driver)) {
                return Vec::new();
            }
            return self.interrupts().map(event).collect::<Option<_>>().unwrap_or_default();
        };
        sockets(interface).unwrap_or_else(|error| {
            tracing::debug!(
                device = self.device(),
                %error,
                "no socket to wait on, falling back to timed sleep"
            );
            Vec::new()
        })
    }
}

/// Returns this process's packet sockets on an interface.
fn sockets(interface: u32) -> io::Result<Vec<RxEvent>> {
    let bound = bound_to(&fs::read_to_string("/proc/thread-self/net/packet")?, interface);
    let mut events = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The descriptor of the directory itself is closed by now.
        let Ok(target) = fs::read_link(&path) else { continue };
        let inode = socket_inode(&target.to_string_lossy());
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (Some(inode), Some(number)) = (inode.filter(|inode| bound.contains(inode)), number) {
            // SAFETY: the number is that of a packet socket, which was open just now. Only a port
            // of this process opens packet sockets, and closes them when it is closed; the caller
            // borrows that port.
            let socket = unsafe { BorrowedFd::borrow_raw(number) };
            events.insert(inode, RxEvent::level(socket.try_clone_to_owned()?));
        }
    }
    if events.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the port's sockets are not found"));
    }
    Ok(events.into_values().collect())
}

/// Returns the inodes of the sockets bound to an interface in the kernel's list of packet sockets.
fn bound_to(list: &str, interface: u32) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, _, bound, _, _, _, inode] = fields[..] else { return None };
        (bound.parse() == Ok(interface)).then(|| inode.parse().ok()).flatten()
    };
    list.lines().filter_map(inode).collect()
}

/// Returns the inode in `socket:[1234]`.
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
    fn an_event_ends_the_wait() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let events = [RxEvent::level(here.into())];
        assert!(!RxEvent::wait_any(&events, Duration::from_micros(10)));
        there.write_all(b"!").unwrap();
        let start = Instant::now();
        assert!(RxEvent::wait_any(&events, Duration::from_secs(60)));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
