//! Fragmentation in front of a tunnel (RFC 791, section 3.2): a packet that does not fit and may be
//! fragmented is split, and each fragment is encapsulated by itself.

use arrayvec::ArrayVec;

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::wire::{ipv4, put_u16};

/// The most fragments that one packet is split into: enough for a jumbo frame in tunnels with a
/// path MTU of 1280 bytes.
pub const MOST: usize = 8;

/// Splits an IPv4 packet into fragments of at most `mtu` bytes, each in a frame with the packet's
/// Ethernet header.
///
/// `None` when the pool is exhausted, when the packet is spread over several buffer segments, when
/// `mtu` leaves no space for data, or when the packet needs more than [`MOST`] fragments.
pub fn split<P: Pool>(
    packet: &Packet<P::Buffer>,
    mtu: usize,
    pool: &mut P,
) -> Option<ArrayVec<P::Buffer, MOST>> {
    let (l3, l4) = (usize::from(packet.view.l3), usize::from(packet.view.l4));
    let frame = packet.buffer.head().get(..packet.view.end as usize)?;
    let (headers, data) = frame.split_at(l4);
    // Offsets count in units of 8 bytes.
    let part = mtu.checked_sub(l4 - l3)? & !7;
    if part == 0 {
        return None;
    }
    let (place, more) = ipv4::fragment_place(&headers[l3..]);
    let mut fragments = ArrayVec::new();
    for (number, bytes) in data.chunks(part).enumerate() {
        let mut buffer = pool.alloc(l4 + bytes.len())?;
        let fragment = buffer.head_mut();
        fragment[..l4].copy_from_slice(headers);
        fragment[l4..].copy_from_slice(bytes);
        let offset = place + number * part;
        let last = number * part + bytes.len() == data.len();
        let ip = &mut fragment[l3..];
        ipv4::set_total_length(ip, (l4 - l3 + bytes.len()) as u16);
        ipv4::set_fragment_place(ip, offset, more || !last);
        if number > 0 {
            blank_options(&mut ip[..l4 - l3]);
        }
        fragments.try_push(buffer).ok()?;
    }
    Some(fragments)
}

/// Overwrites options that must not be copied into later fragments with NOPs (RFC 791, section 3.1:
/// the "copied" flag), and updates the header checksum.
fn blank_options(header: &mut [u8]) {
    const COPIED: u8 = 0x80;
    const END: u8 = 0;
    const NOP: u8 = 1;
    let mut at = ipv4::HEADER;
    while at < header.len() && header[at] != END {
        let length = match header[at] {
            NOP => 1,
            _ => usize::from(header.get(at + 1).copied().unwrap_or(0)).max(2),
        };
        let end = (at + length).min(header.len());
        if header[at] & COPIED == 0 {
            header[at..end].fill(NOP);
        }
        at = end;
    }
    let checksum = {
        put_u16(header, 10, 0);
        crate::wire::checksum::Sum::of(header).checksum()
    };
    put_u16(header, 10, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::packet::view::Kind;
    use crate::testing::Segment;

    fn packet(data: usize, options: &[u8]) -> Packet<HeapBuffer> {
        let payload: Vec<_> = (0..data).map(|n| n as u8).collect();
        let segment = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9);
        let mut frame = segment.payload(&payload).frame();
        // Without DF, with an identification, with IP options.
        frame[18..22].copy_from_slice(&[0, 9, 0, 0]);
        frame[14] += options.len() as u8 / 4;
        let length = frame.len() - 14 + options.len();
        frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
        frame.splice(34..34, options.iter().copied());
        frame[24..26].fill(0);
        let sum = crate::wire::checksum::Sum::of(&frame[14..34 + options.len()]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        Packet::new(HeapBuffer::new(&frame))
    }

    fn reassembled(fragments: &[HeapBuffer], mtu: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (number, fragment) in fragments.iter().enumerate() {
            let seen = Packet::new(fragment.clone());
            assert!(seen.ip_checksum_ok() && seen.ip_len() <= mtu);
            let (place, more) = ipv4::fragment_place(seen.ip());
            assert_eq!((place, more), (data.len(), number + 1 < fragments.len()));
            assert_eq!(ipv4::identification(seen.ip()), 9);
            let first = if number == 0 { Kind::FirstFragment } else { Kind::Fragment };
            assert_eq!(seen.view.kind, first);
            data.extend_from_slice(&fragment.frame()[usize::from(seen.view.l4)..]);
        }
        data
    }

    #[test]
    fn the_fragments_reassemble_to_the_packet() {
        for (data, mtu, count) in
            [(1460, 1480, 2), (1441, 1480, 2), (3000, 1280, 3), (8960, 1500, 7)]
        {
            let packet = packet(data, &[]);
            let fragments = split(&packet, mtu, &mut HeapPool::default()).unwrap();
            assert_eq!(fragments.len(), count, "{data} bytes");
            assert_eq!(reassembled(&fragments, mtu), packet.buffer.frame()[34..]);
        }
    }

    #[test]
    fn only_options_with_the_copied_flag_are_in_later_fragments() {
        // Router alert is copied, record route is not.
        let packet = packet(1460, &[148, 4, 0, 0, 7, 3, 4, 0]);
        let fragments = split(&packet, 1480, &mut HeapPool::default()).unwrap();
        assert_eq!(fragments[0].frame()[34..42], [148, 4, 0, 0, 7, 3, 4, 0]);
        assert_eq!(fragments[1].frame()[34..42], [148, 4, 0, 0, 1, 1, 1, 0]);
        assert_eq!(reassembled(&fragments, 1480), packet.buffer.frame()[42..]);
    }

    #[test]
    fn too_many_fragments_too_small_an_mtu_or_an_empty_pool_gives_none() {
        assert!(split(&packet(8960, &[]), 600, &mut HeapPool::default()).is_none());
        assert!(split(&packet(1460, &[]), 27, &mut HeapPool::default()).is_none());
        assert!(split(&packet(1460, &[]), 1480, &mut HeapPool::with_limit(1)).is_none());
    }
}
