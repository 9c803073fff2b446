//! A frame on its way to another worker, in as few bytes as carry it: what lies in a queue moves
//! from core to core, like the frame itself.

use pipeline::packet::view::{Kind, Packet, Side, View};
use pipeline::wire::family::Version;

/// The purpose of a frame that is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffKind {
    /// Process it: it was received on this side, and the receiving worker owns its client.
    Received(Side),
    /// Transmit it on this side.
    Transmit(Side),
}

/// A frame for another worker, with its parsed view if that is short: the sender has parsed it
/// already to find the owner. Four of them fill a cache line.
#[derive(Debug)]
pub struct HandoffFrame<B> {
    frame: B,
    /// Offsets and end of the view, as far as it is short.
    l3: u8,
    l4: u8,
    payload: u8,
    kind: Kind,
    end: u16,
    marks: u8,
}

/// The frame came from the outside, or leaves by it.
const OUTSIDE: u8 = 1;
/// The frame is to be transmitted.
const TRANSMIT: u8 = 2;
/// The packet is IPv6.
const IPV6: u8 = 4;
/// The view is too long to be carried.
const NO_VIEW: u8 = 8;

impl<B> HandoffFrame<B> {
    /// Creates a handoff of a packet received on `side` to the owner of its client.
    #[inline]
    pub fn received(side: Side, packet: Packet<B>) -> Self {
        let View { l3, l4, payload, end, version, kind } = packet.view;
        let is_short = (l3 | l4 | payload) <= u16::from(u8::MAX) && end <= u32::from(u16::MAX);
        let mut marks = outside(side);
        if version == Version::V6 {
            marks |= IPV6;
        }
        if !is_short {
            marks |= NO_VIEW;
        }
        Self {
            frame: packet.buffer,
            l3: l3 as u8,
            l4: l4 as u8,
            payload: payload as u8,
            kind,
            end: end as u16,
            marks,
        }
    }

    /// Creates a handoff of a frame to be transmitted on `side`.
    #[inline]
    pub fn transmit(side: Side, frame: B) -> Self {
        let marks = outside(side) | TRANSMIT | NO_VIEW;
        Self { frame, l3: 0, l4: 0, payload: 0, kind: Kind::Tcp, end: 0, marks }
    }

    /// Returns the purpose.
    #[inline]
    pub fn kind(&self) -> HandoffKind {
        let side = if self.marks & OUTSIDE == 0 { Side::Inside } else { Side::Outside };
        match self.marks & TRANSMIT {
            0 => HandoffKind::Received(side),
            _ => HandoffKind::Transmit(side),
        }
    }

    /// Returns the frame's parsed view. `None` for a frame to transmit, and for one with headers of
    /// more than 255 bytes or longer than 64 KiB, which is to be parsed again.
    #[inline]
    pub fn view(&self) -> Option<View> {
        if self.marks & NO_VIEW != 0 {
            return None;
        }
        Some(View {
            l3: self.l3.into(),
            l4: self.l4.into(),
            payload: self.payload.into(),
            end: self.end.into(),
            version: if self.marks & IPV6 == 0 { Version::V4 } else { Version::V6 },
            kind: self.kind,
        })
    }

    /// Returns the frame.
    #[inline]
    pub fn frame(&self) -> &B {
        &self.frame
    }

    /// Takes the frame out.
    #[inline]
    pub fn into_frame(self) -> B {
        self.frame
    }
}

#[inline]
fn outside(side: Side) -> u8 {
    if side == Side::Outside { OUTSIDE } else { 0 }
}

#[cfg(test)]
mod tests {
    use firstack_packets::Segment;

    use super::*;

    const ENDS: [&str; 2] = ["198.18.1.10:40000", "203.0.113.10:80"];

    #[test]
    fn four_fill_a_cache_line() {
        assert_eq!(size_of::<HandoffFrame<usize>>(), 16);
    }

    #[test]
    fn a_frame_is_handed_over_with_its_purpose_and_view() {
        let syn = Segment::syn(ENDS[0], ENDS[1], 7);
        let v6 = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7);
        let tunnel = Segment::syn(ENDS[0], ENDS[1], 7).tunnelled("203.0.113.1", "198.51.100.10");
        for frame in [syn.frame(), v6.frame(), tunnel, vec![0; 60], vec![]] {
            for side in Side::ALL {
                let view = View::parse(&frame, frame.len());
                let packet = Packet { buffer: &frame[..], view };
                let handed = HandoffFrame::received(side, packet);
                assert_eq!(handed.kind(), HandoffKind::Received(side));
                assert_eq!(handed.view(), Some(view));
                assert_eq!(handed.into_frame(), frame);
                let handed = HandoffFrame::transmit(side, &frame[..]);
                assert_eq!(handed.kind(), HandoffKind::Transmit(side));
                assert_eq!(handed.view(), None);
            }
        }
    }

    #[test]
    fn a_long_view_stays_behind() {
        let short = View { l3: 14, l4: 54, payload: 255, end: 65_535, ..view() };
        let handed =
            |view| HandoffFrame::received(Side::Inside, Packet { buffer: (), view }).view();
        assert_eq!(handed(short), Some(short));
        for long in [
            View { l3: 256, ..short },
            View { l4: 256, ..short },
            View { payload: 256, ..short },
            View { end: 65_536, ..short },
        ] {
            assert_eq!(handed(long), None, "{long:?}");
        }
    }

    fn view() -> View {
        let frame = Segment::syn(ENDS[0], ENDS[1], 7).frame();
        View::parse(&frame, frame.len())
    }
}
