//! Kernel interfaces below virtual devices: their features, MTU and flags.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Queries of the ethtool interface (linux/ethtool.h).
const GET_DRIVER: u32 = 0x03;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
/// The bit of large receive offload in the flags.
const LRO: u32 = 1 << 15;

/// The features of an interface that change which frames a raw socket sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Generic receive offload: the kernel merges received frames.
    pub gro: bool,
    /// Large receive offload: the interface merges received frames.
    pub lro: bool,
    /// The interface is a veth whose checksums are left for hardware to compute.
    pub unfinished_checksums: bool,
}

/// Returns the features of an interface.
///
/// # Errors
/// If there is no such interface, or it cannot be asked. An interface that does not know a feature
/// does not have it.
pub fn features(name: &str) -> io::Result<Features> {
    let get = |query| match number_of(name, query) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        result => result,
    };
    Ok(Features {
        gro: get(GET_GRO)? != 0,
        lro: get(GET_FLAGS)? & LRO != 0,
        unfinished_checksums: is_veth(name) && get(GET_TX_CHECKSUM)? != 0,
    })
}

/// The request code of the ethtool interface (linux/sockios.h).
const ETHTOOL: libc::c_ulong = 0x8946;

/// A request of the ethtool interface, larger than any of those used here.
#[repr(C, align(8))]
struct Query {
    command: u32,
    answer: [u8; 252],
}

/// Returns the one number that a query is answered with.
fn number_of(name: &str, command: u32) -> io::Result<u32> {
    let [a, b, c, d, ..] = ethtool(name, command)?;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

fn ethtool(name: &str, command: u32) -> io::Result<[u8; 252]> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut query = Query { command, answer: [0; 252] };
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut query).cast();
    // SAFETY: the request's name ends with a zero, and its data points to a query that outlives the
    // call and has room for the answers to the queries used here.
    let status = unsafe { libc::ioctl(any.as_raw_fd(), ETHTOOL as _, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(query.answer) }
}

fn attribute(name: &str, attribute: &str) -> Option<String> {
    let path: PathBuf = ["/sys/class/net", name, attribute].iter().collect();
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Returns the MTU of an interface; `None` if there is no such interface.
pub fn mtu(name: &str) -> Option<u32> {
    attribute(name, "mtu")?.parse().ok()
}

/// Returns the number of an interface, which is another one when it has been deleted and made again;
/// `None` if there is no such interface.
pub fn number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Returns whether an interface is promiscuous; `None` if there is no such interface.
pub fn is_promiscuous(name: &str) -> Option<bool> {
    let flags = attribute(name, "flags")?;
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
    Some(flags & libc::IFF_PROMISC as u32 != 0)
}

/// Returns the flags of an interface (netdevice(7)).
///
/// # Errors
/// If there is no such interface.
fn flags(any: &OwnedFd, name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request's name ends with a zero; the kernel writes its flags.
    let status = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(request) }
}

fn any_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Returns whether an interface is up and has a carrier.
///
/// # Errors
/// If there is no such interface.
pub fn has_link(name: &str) -> io::Result<bool> {
    let request = flags(&any_socket()?, name)?;
    // SAFETY: the kernel has written the flags.
    let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
}

/// Sets an interface up or down.
///
/// # Errors
/// If there is no such interface, or this process lacks CAP_NET_ADMIN.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let any = any_socket()?;
    let mut request = flags(&any, name)?;
    // SAFETY: the kernel has written the flags.
    let flags = unsafe { &mut request.ifr_ifru.ifru_flags };
    match up {
        true => *flags |= libc::IFF_UP as libc::c_short,
        false => *flags &= !libc::IFF_UP as libc::c_short,
    }
    // SAFETY: the request is the one that the kernel has filled in, with one flag changed.
    let status = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the name of the interface with this number.
pub fn name(number: u32) -> Option<String> {
    let mut buffer = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call demands.
    let name = unsafe { libc::if_indextoname(number, buffer.as_mut_ptr().cast()) };
    if name.is_null() {
        return None;
    }
    let end = buffer.iter().position(|byte| *byte == 0)?;
    String::from_utf8(buffer[..end].to_vec()).ok()
}

fn is_veth(name: &str) -> bool {
    ethtool(name, GET_DRIVER).is_ok_and(|answer| answer.starts_with(b"veth\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_asked_and_a_missing_interface_is_an_error() {
        features("lo").unwrap();
        assert_eq!(mtu("lo").is_some(), number("lo").is_some());
        assert_eq!(name(number("lo").unwrap()).as_deref(), Some("lo"));
        assert!(!is_veth("lo"));
        assert_eq!(has_link("lo").is_ok(), mtu("lo").is_some());
        assert!(has_link("nothere0").is_err() && set_up("nothere0", true).is_err());
        for missing in ["nothere0", "a-name-that-is-too-long"] {
            assert!(features(missing).is_err());
            assert_eq!((mtu(missing), number(missing)), (None, None));
            assert_eq!(is_promiscuous(missing), None);
        }
    }
}
