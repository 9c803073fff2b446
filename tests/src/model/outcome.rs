//! The predicted outcome of a packet.

use pipeline::verdict::Verdict;

use super::related::Fitting;
use super::{Outer, Packet};

/// The outcome of a received packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its verdict.
    pub verdict: Verdict,
    /// Frames that leave by the other side.
    pub onward: Vec<Leaving>,
    /// Frames that leave by the receiving side.
    pub back: Vec<Leaving>,
    /// Another outcome that the protocol allows.
    pub or: Option<Box<Outcome>>,
}

/// A transmitted frame.
#[derive(Clone, Debug)]
pub enum Leaving {
    /// The received frame, unmodified.
    Untouched,
    /// A frame with this packet.
    Packet(Box<Packet>),
    /// Exactly this frame.
    Frame(Vec<u8>),
    /// A frame with this in a tunnel.
    Tunnel(Outer, Box<Leaving>),
}

impl Outcome {
    /// The packet is forwarded unmodified.
    pub fn untouched(verdict: Verdict) -> Self {
        Self { verdict, onward: vec![Leaving::Untouched], back: Vec::new(), or: None }
    }

    /// The packet is dropped.
    pub fn dropped(verdict: Verdict) -> Self {
        Self { verdict, onward: Vec::new(), back: Vec::new(), or: None }
    }

    /// The packet is forwarded in another form.
    pub fn sends(verdict: Verdict, leaving: Leaving) -> Self {
        Self { verdict, onward: vec![leaving], back: Vec::new(), or: None }
    }

    /// The packet is forwarded with other fields.
    pub fn changed(verdict: Verdict, packet: Packet) -> Self {
        Self::sends(verdict, Leaving::Packet(Box::new(packet)))
    }

    /// A fragment is forwarded in a tunnel.
    pub fn fragment(fitting: Fitting, outer: &Outer) -> Self {
        let put = |frame| Leaving::Tunnel(outer.clone(), Box::new(Leaving::Frame(frame)));
        match fitting {
            Fitting::Whole(frame) => Self::sends(Verdict::FragmentTranslated, put(frame)),
            Fitting::Pieces(pieces) => {
                let onward = pieces.into_iter().map(put).collect();
                Self { onward, ..Self::dropped(Verdict::Fragmented) }
            }
            Fitting::Answered(error) => Self::answered(Verdict::TooBig, Leaving::Frame(error)),
            Fitting::Unanswered => Self::dropped(Verdict::TooBigDropped),
        }
    }

    /// The packet is dropped and answered.
    pub fn answered(verdict: Verdict, answer: Leaving) -> Self {
        Self { verdict, onward: Vec::new(), back: vec![answer], or: None }
    }
}

impl Leaving {
    /// Checks a transmitted frame. `received` is the frame that caused it. Returns the source port
    /// of its GUE tunnel, if there is one.
    ///
    /// # Panics
    /// When the frame is another.
    pub fn check(&self, received: &[u8], frame: &[u8]) -> Option<u16> {
        match self {
            Self::Untouched => assert_eq!(frame, received),
            Self::Frame(expected) => assert_eq!(frame, expected),
            Self::Packet(expected) => {
                let mut packet = Packet::read(frame).expect("what leaves is whole");
                if expected.is_v6() && expected.ttl == 64 && expected.window == 0 {
                    // A RST. Its flow label is unspecified.
                    packet.id = expected.id;
                }
                assert_eq!(&packet, &**expected);
            }
            Self::Tunnel(expected, inside) => {
                let (outer, inner, port) = Outer::peel(frame).expect("a tunnel leaves");
                assert_eq!(&outer, expected);
                inside.check(received, &inner);
                assert!(port.is_none_or(|port| port >= 49152), "a source port of GUE");
                return port;
            }
        }
        None
    }
}
