//! Plain TCP: packets with all headers at their usual offsets, which are constants for the compiler.

use std::marker::PhantomData;

use super::{Kind, Shape, View};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::{ethernet, tcp};

impl View {
    /// Returns whether this is TCP of this family with its headers at the usual offsets: no VLAN
    /// tags, no IP options, no extension headers.
    #[inline(always)]
    pub fn is_plain<F: Family>(&self) -> bool {
        self.kind == Kind::Tcp
            && self.version == F::VERSION
            && usize::from(self.l3) == ethernet::HEADER
            && usize::from(self.l4) == ethernet::HEADER + F::HEADER
    }

    /// Returns the shape of a parsed packet.
    #[inline(always)]
    pub(crate) fn shape(&self) -> Shape {
        match self.version {
            Version::V4 if self.is_plain::<V4>() => Shape::PlainV4,
            Version::V6 if self.is_plain::<V6>() => Shape::PlainV6,
            Version::V4 | Version::V6 => Shape::Other,
        }
    }

    /// Returns the view of a plain TCP packet with constant offsets, which the compiler can use.
    /// Only the lengths come from `self`.
    #[inline(always)]
    pub(crate) fn as_plain<F: Family>(&self) -> Self {
        Self {
            l3: ethernet::HEADER as u16,
            l4: (ethernet::HEADER + F::HEADER) as u16,
            payload: self.payload,
            end: self.end,
            version: F::VERSION,
            kind: Kind::Tcp,
        }
    }
}

/// The headers of a plain TCP packet. Their offsets are constants, so the compiler removes bounds
/// checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a, F> {
    bytes: &'a [u8],
    family: PhantomData<F>,
}

impl<'a, F: Family> Headers<'a, F> {
    const LENGTH: usize = ethernet::HEADER + F::HEADER + tcp::HEADER;

    /// Returns the headers of a frame for which [`View::is_plain`] is true, or `None` if it is too
    /// short.
    #[inline(always)]
    pub(crate) fn of(head: &'a [u8]) -> Option<Self> {
        Some(Self { bytes: head.get(..Self::LENGTH)?, family: PhantomData })
    }

    /// Returns the bytes from the TCP header on, at least its fixed part.
    #[inline(always)]
    pub(crate) fn tcp(&self) -> &'a [u8] {
        &self.bytes[ethernet::HEADER + F::HEADER..]
    }

    /// Returns the source endpoint.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint<F> {
        let address = F::source(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::source_port(self.tcp()))
    }

    /// Returns the destination endpoint.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint<F> {
        let address = F::destination(&self.bytes[ethernet::HEADER..]);
        Endpoint::new(address, tcp::destination_port(self.tcp()))
    }
}
