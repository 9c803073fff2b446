//! Clamping of the MSS option (RFC 9293, section 3.7.1) in a SYN or SYN/ACK, so that full segments
//! fit a tunnel. The MSS is lowered, never raised, and never added.

use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::family::Family;
use crate::wire::tcp::{self, Options};
use crate::wire::{put_u16, u16_at};

/// Returns the largest MSS, in bytes, with which full segments fit packets of `mtu` bytes.
pub fn limit<F: Family>(mtu: usize) -> u16 {
    mtu.saturating_sub(F::HEADER + tcp::HEADER).try_into().unwrap_or(u16::MAX)
}

/// Lowers every MSS option of a packet to at most `limit` bytes. Returns whether any was lowered.
pub fn mss<B: Buffer>(packet: &mut Packet<B>, limit: u16) -> bool {
    let mut lowered = false;
    while let Some(at) = larger(packet.options(), limit) {
        let tcp = packet.tcp_mut();
        let place = tcp::HEADER + at;
        // At an odd offset, such as behind a single NOP, the value straddles two words of the sum.
        let sum = |bytes: &[u8]| if at % 2 == 0 { Sum::of(bytes) } else { Sum::of_at_odd(bytes) };
        let before = Delta::removed(sum(&tcp[place..place + 2]));
        put_u16(tcp, place, limit);
        let after = Delta::added(sum(&tcp[place..place + 2]));
        tcp::adjust(tcp, before.plus(after));
        lowered = true;
    }
    lowered
}

/// Returns the offset, in the options, of the value of an MSS above `limit`.
fn larger(options: &[u8], limit: u16) -> Option<usize> {
    let mut sizes = Options::new(options)
        .flatten()
        .filter(|option| option.kind == tcp::MSS && option.bytes.len() == 4)
        .map(|option| (option.at + 2, u16_at(option.bytes, 2)));
    sizes.find(|(_, size)| *size > limit).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::testing::Segment;
    use crate::wire::family::{V4, V6};

    fn mss_clamped(options: &[u8], limit: u16) -> (bool, Vec<u8>) {
        let segment = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(options);
        let mut packet = Packet::new(HeapBuffer::new(&segment.frame()));
        let changed = mss(&mut packet, limit);
        assert!(packet.tcp_checksum_ok::<V4>());
        (changed, packet.options().to_vec())
    }

    #[test]
    fn lowers_and_never_raises() {
        assert_eq!(mss_clamped(&[2, 4, 5, 0xb4], 1440), (true, vec![2, 4, 5, 0xa0]));
        assert_eq!(mss_clamped(&[2, 4, 5, 0xa0], 1440), (false, vec![2, 4, 5, 0xa0]));
        assert_eq!(mss_clamped(&[2, 4, 2, 0x18], 1440), (false, vec![2, 4, 2, 0x18]));
        assert_eq!(mss_clamped(&[], 1440), (false, vec![]));
        // Hosts may use the last of several.
        let twice = [2, 4, 2, 0x18, 2, 4, 5, 0xb4, 1, 2, 4, 0x23, 0x28, 1, 1, 1];
        let lowered = vec![2, 4, 2, 0x18, 2, 4, 5, 0xa0, 1, 2, 4, 5, 0xa0, 1, 1, 1];
        assert_eq!(mss_clamped(&twice, 1440), (true, lowered));
    }

    #[test]
    fn an_mss_at_an_odd_offset_is_lowered_and_malformed_options_are_left_alone() {
        let odd = [1, 2, 4, 0x23, 0x28, 1, 1, 1];
        assert_eq!(mss_clamped(&odd, 1440), (true, vec![1, 2, 4, 5, 0xa0, 1, 1, 1]));
        assert!(!mss_clamped(&[2, 3, 9, 1], 100).0);
        assert!(!mss_clamped(&[2, 0, 9, 9], 100).0);
    }

    #[test]
    fn the_limit_leaves_space_for_both_headers() {
        assert_eq!((limit::<V4>(1480), limit::<V6>(1460)), (1440, 1400));
        assert_eq!(limit::<V6>(20), 0);
    }
}
