//! A frame together with the look that was taken at it.

use super::View;
use crate::packet::buffer::Buffer;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::{ipv4, tcp};

/// A frame and the look that was taken at it.
#[derive(Clone, Debug)]
pub struct Packet<B> {
    /// The frame.
    pub buffer: B,
    /// Where things are in it.
    pub view: View,
}

impl<B: Buffer> Packet<B> {
    /// Looks at a frame.
    #[inline]
    pub fn new(buffer: B) -> Self {
        let view = View::parse(buffer.head(), buffer.frame_len());
        Self { buffer, view }
    }

    /// A frame and the look that has been taken at it. The fields are copied one by one: as a
    /// whole they would go by way of a temporary whose bytes are stored and loaded in different
    /// pieces, and the loads would wait (benchmark `roles`).
    #[inline(always)]
    pub(crate) fn parsed(buffer: B, view: &View) -> Self {
        let View { l3, l4, payload, end, version, kind } = *view;
        Self { buffer, view: View { l3, l4, payload, end, version, kind } }
    }

    /// Looks at the frame again, after its headers changed.
    pub fn reparse(&mut self) {
        self.view = View::parse(self.buffer.head(), self.buffer.frame_len());
    }

    /// Bytes from the IP header on.
    #[inline(always)]
    pub fn ip(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l3)..]
    }

    /// Bytes from the IP header on, to be changed.
    #[inline(always)]
    pub fn ip_mut(&mut self) -> &mut [u8] {
        let l3 = usize::from(self.view.l3);
        &mut self.buffer.head_mut()[l3..]
    }

    /// Bytes from the TCP header on, of a packet of kind [`Kind::Tcp`].
    #[inline(always)]
    pub fn tcp(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4)..]
    }

    /// Bytes from the TCP header on, to be changed.
    #[inline(always)]
    pub fn tcp_mut(&mut self) -> &mut [u8] {
        let l4 = usize::from(self.view.l4);
        &mut self.buffer.head_mut()[l4..]
    }

    /// The TCP option area.
    pub fn options(&self) -> &[u8] {
        &self.buffer.head()[usize::from(self.view.l4) + tcp::HEADER..usize::from(self.view.payload)]
    }

    /// Source endpoint of a TCP packet.
    #[inline]
    pub fn source<F: Family>(&self) -> Endpoint<F> {
        self.view.source(self.buffer.head())
    }

    /// Destination endpoint of a TCP packet.
    #[inline]
    pub fn destination<F: Family>(&self) -> Endpoint<F> {
        self.view.destination(self.buffer.head())
    }

    /// Whether TCP data follows the header.
    pub fn has_data(&self) -> bool {
        self.view.end > u32::from(self.view.payload)
    }

    /// Whether the IP header's checksum is right; IPv6 has none.
    #[inline(always)]
    pub fn ip_checksum_ok(&self) -> bool {
        let header = usize::from(self.view.l4 - self.view.l3);
        match self.view.version {
            Version::V4 => V4::header_ok(self.ip(), header),
            Version::V6 => V6::header_ok(self.ip(), header),
        }
    }

    /// Whether the TCP checksum is right. A segment spread over several buffer segments counts
    /// as wrong: none that may decide anything is that long.
    pub fn tcp_checksum_ok<F: Family>(&self) -> bool {
        let Some(segment) =
            self.buffer.head().get(usize::from(self.view.l4)..self.view.end as usize)
        else {
            return false;
        };
        let ip = self.ip();
        let (from, to) = (F::source(ip), F::destination(ip));
        tcp::checksum_ok(segment, F::pseudo_header(from, to, ipv4::TCP, segment.len()))
    }

    /// Length of the IP packet in bytes, padding of the frame not included.
    #[inline(always)]
    pub fn ip_len(&self) -> usize {
        self.view.end as usize - usize::from(self.view.l3)
    }
}
