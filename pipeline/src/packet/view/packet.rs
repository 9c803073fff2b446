//! A frame together with its parsed view.

use std::net::IpAddr;

use super::View;
use crate::packet::buffer::Buffer;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::{ipv4, tcp};

/// A frame and its parsed view.
///
/// ```rust
/// use firstack_packets::Segment;
/// use pipeline::packet::buffer::HeapBuffer;
/// use pipeline::packet::view::Packet;
/// use pipeline::wire::family::V4;
///
/// let segment = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).payload(b"GET /");
/// let mut packet = Packet::new(HeapBuffer::new(&segment.frame()));
/// assert!(packet.has_data() && packet.tcp_checksum_ok::<V4>());
/// assert_eq!(packet.source::<V4>().port, 40000);
///
/// packet.tcp_mut()[4] ^= 1;
/// assert!(!packet.tcp_checksum_ok::<V4>());
/// ```
#[derive(Clone, Debug)]
pub struct Packet<B> {
    /// The frame.
    pub buffer: B,
    /// The kind and the header offsets of the packet in it.
    pub view: View,
}

impl<B: Buffer> Packet<B> {
    /// Parses a frame.
    #[inline]
    pub fn new(buffer: B) -> Self {
        let mut packet = Self { buffer, view: View::NOTHING };
        packet.reparse();
        packet
    }

    /// Combines a frame with its view. Copies the fields one by one: as a whole they would pass
    /// through a temporary whose bytes are stored and loaded in different pieces, and the loads
    /// would wait (benchmark `roles`).
    #[inline(always)]
    pub(crate) fn parsed(buffer: B, view: &View) -> Self {
        let View { l3, l4, payload, end, version, kind } = *view;
        Self { buffer, view: View { l3, l4, payload, end, version, kind } }
    }

    /// Parses the frame again, after its headers changed.
    #[inline]
    pub fn reparse(&mut self) {
        self.view.parse_in_place(self.buffer.head(), self.buffer.frame_len());
    }

    /// Returns the bytes from the IP header on.
    #[inline(always)]
    pub fn ip(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l3)..]
    }

    /// Returns the bytes from the IP header on, for changes.
    #[inline(always)]
    pub fn ip_mut(&mut self) -> &mut [u8] {
        let l3 = usize::from(self.view.l3);
        &mut self.buffer.head_mut()[l3..]
    }

    /// Returns the bytes from the TCP header on. The packet must be of kind
    /// [`Kind::Tcp`](super::Kind::Tcp).
    #[inline(always)]
    pub fn tcp(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4)..]
    }

    /// Returns the bytes from the TCP header on, for changes.
    #[inline(always)]
    pub fn tcp_mut(&mut self) -> &mut [u8] {
        let l4 = usize::from(self.view.l4);
        &mut self.buffer.head_mut()[l4..]
    }

    /// Returns the TCP option area.
    pub fn options(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4) + tcp::HEADER..usize::from(self.view.payload)]
    }

    /// Returns the source endpoint of a TCP packet.
    #[inline(always)]
    pub fn source<F: Family>(&self) -> Endpoint<F> {
        self.view.source(self.buffer.head())
    }

    /// Returns the destination endpoint of a TCP packet.
    #[inline(always)]
    pub fn destination<F: Family>(&self) -> Endpoint<F> {
        self.view.destination(self.buffer.head())
    }

    /// Returns the source address of an IP packet.
    #[inline(always)]
    pub fn source_address(&self) -> IpAddr {
        match self.view.version {
            Version::V4 => V4::source(self.ip()).into(),
            Version::V6 => V6::source(self.ip()).into(),
        }
    }

    /// Returns the destination address of an IP packet.
    #[inline(always)]
    pub fn destination_address(&self) -> IpAddr {
        match self.view.version {
            Version::V4 => V4::destination(self.ip()).into(),
            Version::V6 => V6::destination(self.ip()).into(),
        }
    }

    /// Returns whether the segment carries TCP data.
    pub fn has_data(&self) -> bool {
        self.view.end > u32::from(self.view.payload)
    }

    /// Returns whether the IPv4 header checksum is correct. IPv6 has none and always passes.
    #[inline(always)]
    pub fn ip_checksum_ok(&self) -> bool {
        let header = usize::from(self.view.l4 - self.view.l3);
        match self.view.version {
            Version::V4 => V4::header_ok(self.ip(), header),
            Version::V6 => V6::header_ok(self.ip(), header),
        }
    }

    /// Returns whether the TCP checksum is correct. Returns `false` for a packet that is spread
    /// over several buffer segments: none that a decision depends on is that long.
    pub fn tcp_checksum_ok<F: Family>(&self) -> bool {
        let Some(segment) =
            self.buffer.head().get(usize::from(self.view.l4)..self.view.end as usize)
        else {
            return false;
        };
        if self.buffer.l4_checksum_is_good() {
            return true;
        }
        let ip = self.ip();
        let (from, to) = (F::source(ip), F::destination(ip));
        tcp::checksum_ok(segment, F::pseudo_header(from, to, ipv4::TCP, segment.len()))
    }

    /// Returns the length of the IP packet in bytes, without the padding of the frame.
    #[inline(always)]
    pub fn ip_len(&self) -> usize {
        self.view.end as usize - usize::from(self.view.l3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::testing::Segment;

    #[test]
    fn a_tcp_checksum_that_the_port_has_verified_is_not_verified_again() {
        let mut frame = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).frame();
        assert!(Packet::new(HeapBuffer::new(&frame)).tcp_checksum_ok::<V4>());
        // To tell who says so.
        frame[50] ^= 1;
        assert!(!Packet::new(HeapBuffer::new(&frame)).tcp_checksum_ok::<V4>());
        let mut verified = Packet::new(HeapBuffer::verified(&frame));
        assert!(verified.tcp_checksum_ok::<V4>());
        // What it has verified is not the first packet any more.
        assert!(verified.buffer.prepend(20));
        verified.buffer.trim_front(20);
        assert!(!verified.tcp_checksum_ok::<V4>());
    }
}
