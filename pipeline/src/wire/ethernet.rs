//! Ethernet II header with up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use super::u16_at;

/// A MAC address.
pub type Mac = [u8; 6];

/// Length of the header in bytes, without VLAN tags.
pub const HEADER: usize = 14;
/// Length of the longest header that is parsed, with two VLAN tags.
pub const MAX_HEADER: usize = HEADER + 2 * VLAN;
const VLAN: usize = 4;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// The broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// Returns the EtherType behind the VLAN tags and the header's length in bytes, or `None` if the
/// header is truncated.
///
/// ```rust
/// use pipeline::wire::ethernet;
///
/// let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
/// assert_eq!(ethernet::parse(&frame), Some((ethernet::IPV4, 14)));
///
/// // VLAN 5.
/// frame.splice(12..12, [0x81, 0x00, 0, 5]);
/// assert_eq!(ethernet::parse(&frame), Some((ethernet::IPV4, 18)));
/// assert_eq!(ethernet::parse(&frame[..17]), None);
/// ```
#[inline]
pub fn parse(frame: &[u8]) -> Option<(u16, usize)> {
    let ethertype = u16_at(frame.get(HEADER - 2..HEADER)?, 0);
    match ethertype {
        IPV4 | IPV6 => Some((ethertype, HEADER)),
        _ => behind_tags(frame),
    }
}

fn behind_tags(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = HEADER;
    loop {
        let ethertype = u16_at(frame.get(at - 2..at)?, 0);
        if !VLAN_TAGS.contains(&ethertype) || at == MAX_HEADER {
            return Some((ethertype, at));
        }
        at += VLAN;
    }
}

/// Returns the destination address.
pub fn destination(frame: &[u8]) -> Mac {
    [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]]
}

/// Returns the source address.
pub fn source(frame: &[u8]) -> Mac {
    [frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]]
}

/// Sets the destination address.
pub fn set_destination(frame: &mut [u8], mac: Mac) {
    frame[..6].copy_from_slice(&mac);
}

/// Sets the source address.
pub fn set_source(frame: &mut [u8], mac: Mac) {
    frame[6..12].copy_from_slice(&mac);
}

/// Moves a header of `length` bytes within `frame`. The common header without VLAN tags is moved
/// without a function call.
#[inline(always)]
pub fn relocate(frame: &mut [u8], from: usize, to: usize, length: usize) {
    if length == HEADER && frame.len() >= from.max(to) + HEADER {
        let mut header = [0; HEADER];
        header.copy_from_slice(&frame[from..from + HEADER]);
        frame[to..to + HEADER].copy_from_slice(&header);
    } else {
        frame.copy_within(from..from + length, to);
    }
}

/// Swaps source and destination, so that the frame returns to its sender.
pub fn reverse(frame: &mut [u8]) {
    let (to, from) = (destination(frame), source(frame));
    set_destination(frame, from);
    set_source(frame, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(tail: &[u8]) -> Vec<u8> {
        let mut frame = vec![1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2];
        frame.extend_from_slice(tail);
        frame
    }

    #[test]
    fn parsing_skips_up_to_two_vlan_tags() {
        assert_eq!(parse(&header(&[0x08, 0x00])), Some((IPV4, 14)));
        assert_eq!(parse(&header(&[0x81, 0, 0, 5, 0x86, 0xdd])), Some((IPV6, 18)));
        let double = header(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x08, 0x06]);
        assert_eq!(parse(&double), Some((ARP, 22)));
    }

    #[test]
    fn a_third_tag_is_an_unknown_ethertype() {
        let triple = header(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7, 8, 0]);
        assert_eq!(parse(&triple), Some((0x8100, 22)));
    }

    #[test]
    fn a_truncated_header_does_not_parse() {
        assert_eq!(parse(&header(&[0x08])), None);
        assert_eq!(parse(&header(&[0x81, 0, 0])), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn reverse_swaps_the_addresses() {
        let mut frame = header(&[8, 0]);
        reverse(&mut frame);
        assert_eq!((destination(&frame), source(&frame)), ([2; 6], [1; 6]));
    }
}
