//! Claims of interfaces and devices: a name that one process holds and others see.
//!
//! A claim is a listening socket with an abstract name (unix(7)). Such names exist once in a network
//! namespace, as interfaces do; they need no directory, and end with their process, however that ends.
//! A name is open to every user of the machine, so one that belongs to a user other than root and this
//! process's own does not count.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt::PeerCredentials,
};

/// A name that this process holds until it drops the claim.
#[derive(Debug)]
pub struct Claim {
    _socket: Option<OwnedFd>,
}

/// Why a name cannot be claimed: another process holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The process's number; `None` if the kernel does not tell, as across containers.
    pub process: Option<u32>,
}

impl Claim {
    /// Claims a name.
    ///
    /// # Errors
    /// If another process of root or this user holds it. Where sockets cannot be made at all, nothing
    /// can be claimed, and nothing is refused.
    pub fn take(name: &str) -> Result<Self, Held> {
        let (Ok(address), Ok(own)) = (UnixAddr::new_abstract(full(name).as_bytes()), stream())
        else {
            return Ok(Self { _socket: None });
        };
        let bound = bind(own.as_raw_fd(), &address).and_then(|()| listen(&own, Backlog::MAXCONN));
        match bound {
            Ok(()) => Ok(Self { _socket: Some(own) }),
            Err(nix::Error::EADDRINUSE) => match holder(&address) {
                Some(held) => Err(held),
                None => Ok(Self { _socket: None }),
            },
            Err(_) => Ok(Self { _socket: None }),
        }
    }
}

fn full(name: &str) -> String {
    format!("firstack/claim/{name}")
}

fn stream() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Returns who holds a name; `None` for a user whose claims do not count.
fn holder(address: &UnixAddr) -> Option<Held> {
    let Ok(asking) = stream() else { return Some(Held { process: None }) };
    // A queue of askers that is full, or a holder that has just gone, tells nothing.
    let told = connect(asking.as_raw_fd(), address)
        .and_then(|()| getsockopt(&asking.as_fd(), PeerCredentials));
    match told {
        Ok(peer) => {
            let counts = peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw();
            let process = u32::try_from(peer.pid()).ok().filter(|process| *process > 0);
            counts.then_some(Held { process })
        }
        Err(_) => Some(Held { process: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_holder_who_is_known_to_others() {
        let name = format!("test-{}", std::process::id());
        let first = Claim::take(&name).unwrap();
        for _ in 0..2 {
            assert_eq!(Claim::take(&name).unwrap_err(), Held { process: Some(std::process::id()) });
        }
        let other = Claim::take(&format!("{name}-other")).unwrap();
        drop((first, other));
        assert!(Claim::take(&name).is_ok());
    }
}
