//! Messages to the service manager (sd_notify).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager something, such as "READY=1", if it has asked to be told by
/// `NOTIFY_SOCKET`.
pub fn notify(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_bytes(), message) {
        tracing::warn!(%error, message, "cannot tell the service manager");
    }
}

fn send(path: &[u8], message: &str) -> io::Result<()> {
    let address = match path {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_sockets_of_both_kinds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("@firstack-notify-{}", std::process::id());
        let sockets = [
            (path.as_os_str().as_bytes(), UnixDatagram::bind(&path).unwrap()),
            (
                name.as_bytes(),
                UnixDatagram::bind_addr(
                    &SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap(),
                )
                .unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            send(address, "MAINPID=7").unwrap();
            let mut message = [0; 20];
            let length = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"MAINPID=7");
        }
        assert!(send(b"/nobody/here", "READY=1").is_err());
    }
}
