//! QEMU's monitor.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What the monitor prints when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";
/// The time for an answer.
const ANSWERS: Duration = Duration::from_secs(60);

/// Runs a command, and returns what the monitor said.
///
/// # Errors
/// If the monitor does not answer.
pub(super) fn command(socket: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWERS))?;
    until_prompt(&mut stream)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    until_prompt(&mut stream)
}

fn until_prompt(stream: &mut UnixStream) -> io::Result<String> {
    let (mut said, mut part) = (Vec::new(), [0; 256]);
    while !said.ends_with(PROMPT) {
        match stream.read(&mut part)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => said.extend_from_slice(&part[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
