//! What a model says becomes of a packet.

use pipeline::verdict::Verdict;

use super::related::Fitting;
use super::{Outer, Packet};

/// What becomes of one received packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The name under which it is counted.
    pub verdict: Verdict,
    /// What leaves by the other side.
    pub onward: Vec<Leaving>,
    /// What goes back by the side it came in by.
    pub back: Vec<Leaving>,
    /// What may become of it as well, as far as the protocol says.
    pub or: Option<Box<Outcome>>,
}

/// A frame that leaves.
#[derive(Clone, Debug)]
pub enum Leaving {
    /// The received one, byte for byte.
    Untouched,
    /// One with this packet.
    Packet(Box<Packet>),
    /// This one.
    Frame(Vec<u8>),
    /// One with this in a tunnel.
    Tunnel(Outer, Box<Leaving>),
}

impl Outcome {
    /// It passes byte for byte.
    pub fn untouched(verdict: Verdict) -> Self {
        Self { verdict, onward: vec![Leaving::Untouched], back: Vec::new(), or: None }
    }

    /// It goes no further.
    pub fn dropped(verdict: Verdict) -> Self {
        Self { verdict, onward: Vec::new(), back: Vec::new(), or: None }
    }

    /// It goes on in another form.
    pub fn sends(verdict: Verdict, leaving: Leaving) -> Self {
        Self { verdict, onward: vec![leaving], back: Vec::new(), or: None }
    }

    /// It goes on with other fields.
    pub fn changed(verdict: Verdict, packet: Packet) -> Self {
        Self::sends(verdict, Leaving::Packet(Box::new(packet)))
    }

    /// A fragment goes on in a tunnel.
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

    /// It goes no further, and is answered.
    pub fn answered(verdict: Verdict, answer: Leaving) -> Self {
        Self { verdict, onward: Vec::new(), back: vec![answer], or: None }
    }
}

impl Leaving {
    /// Checks a frame that has left; `received` is the one that it came of. Gives the source
    /// port of the GUE tunnel that it was in.
    ///
    /// # Panics
    /// When it is another.
    pub fn check(&self, received: &[u8], frame: &[u8]) -> Option<u16> {
        match self {
            Self::Untouched => assert_eq!(frame, received),
            Self::Frame(expected) => assert_eq!(frame, expected),
            Self::Packet(expected) => {
                let mut packet = Packet::read(frame).expect("what leaves is whole");
                if expected.is_v6() && expected.ttl == 64 && expected.window == 0 {
                    // A reset: what its flow label is says nobody.
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
