//! The rest of a packet that is cut off, as ICMP quotes them: what is to be seen says what it
//! was, and the rest is made up as the notation would have it if nothing were said.

use firstack_packets::Payload;
use firstack_packets::tunnel::GUE_PORT;

use super::dissect::{header, total, word};
use crate::scenario::notation::{WINDOW, pattern};

/// The whole packet, if its header is there and what it carries is of a known kind.
pub(super) fn packet(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = bytes.to_vec();
    complete(&mut whole, 0, bytes.len())?;
    Some(whole)
}

/// Completes the packet at an offset; so many bytes were there.
fn complete(whole: &mut Vec<u8>, at: usize, have: usize) -> Option<()> {
    let seen = whole.get(at..have)?;
    let ip = header(seen)?;
    let end = at + total(seen)?;
    let Payload::Other(protocol, rest) = ip.payload else { return None };
    let start = have - rest.len();
    if ip.mf || ip.offset > 0 || end < start {
        return None;
    }
    whole.resize(whole.len().max(end), 0);
    match protocol {
        4 | 41 => complete(whole, start, have),
        47 => complete(whole, start + 4, have),
        17 if rest.len() >= 12 && word(&rest, 2) == Some(GUE_PORT) => {
            complete(whole, start + 12, have)
        }
        17 => {
            let length = ((end - start) as u16).to_be_bytes();
            fill(whole, start + 4, have, &length);
            fill(whole, start + 8, have, &pattern((end - start).checked_sub(8)?));
            Some(())
        }
        1 | 58 => {
            fill(whole, start + 8, have, &pattern((end - start).checked_sub(8)?));
            Some(())
        }
        6 => {
            fill(whole, start + 12, have, &[0x50]);
            fill(whole, start + 14, have, &WINDOW.to_be_bytes());
            let length = usize::from(*whole.get(start + 12)? >> 4) * 4;
            let data = pattern((end - start).checked_sub(length)?);
            fill(whole, start + 20, have, &vec![1; length.checked_sub(20)?]);
            fill(whole, start + length, have, &data);
            Some(())
        }
        _ => None,
    }
}

/// Puts bytes at an offset, but for those that were there.
fn fill(whole: &mut [u8], at: usize, have: usize, bytes: &[u8]) {
    for (place, byte) in (at..).zip(bytes) {
        if place >= have && place < whole.len() {
            whole[place] = *byte;
        }
    }
}
