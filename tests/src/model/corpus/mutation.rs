//! Mutations of frames.

use etherparse::Ipv4Header;
use pipeline::wire::tunnel::Format;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tunnelled;
use crate::model::{PEERS, PEERS_V6};

/// Offset of the IP header in a frame without VLAN tags.
const L3: usize = 14;

/// A mutation of a frame.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// The frame is truncated.
    Truncate(Index),
    /// One byte is changed.
    Flip(Index, u8),
    /// A VLAN tag is added.
    Vlan(u16),
    /// IPv4 options or IPv6 extension headers are added, with padding only.
    IpOptions(u8),
    /// An IPv6 extension header of this kind and random content is added.
    Extension(u8, [u8; 6]),
    /// The IP length is wrong by this much.
    Length(i8),
    /// Bytes are appended.
    Pad(u8),
    /// The frame is encapsulated to the replica, over IPv6 or IPv4.
    Wrap(Format, bool),
    /// The IP header checksum is corrected.
    Mend,
}

impl Mutation {
    /// Generates any mutation.
    pub fn any() -> BoxedStrategy<Self> {
        let extensions = vec![0u8, 43, 44, 60, 51, 50, 135, 59];
        prop_oneof![
            any::<Index>().prop_map(Mutation::Truncate),
            (any::<Index>(), 1u8..).prop_map(|(at, change)| Mutation::Flip(at, change)),
            select(vec![0x8100, 0x88a8, 0x9100]).prop_map(Mutation::Vlan),
            (1u8..11).prop_map(Mutation::IpOptions),
            (select(extensions), any::<[u8; 6]>())
                .prop_map(|(kind, content)| Mutation::Extension(kind, content)),
            any::<i8>().prop_map(Mutation::Length),
            any::<u8>().prop_map(Mutation::Pad),
            (select(Format::ALL.to_vec()), any::<bool>())
                .prop_map(|(format, six)| Mutation::Wrap(format, six)),
            Just(Mutation::Mend),
        ]
        .boxed()
    }

    /// Returns the mutated frame.
    pub fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let is_v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
        match self {
            Self::Truncate(at) => frame.truncate(at.index(frame.len() + 1)),
            Self::Flip(at, change) if !frame.is_empty() => {
                let at = at.index(frame.len());
                frame[at] ^= change;
            }
            Self::Vlan(ethertype) if frame.len() >= L3 => {
                let [a, b] = ethertype.to_be_bytes();
                frame.splice(12..12, [a, b, 0x60, 5]);
            }
            Self::IpOptions(count) if is_v6 && frame.len() >= L3 + 40 => {
                (0..*count).for_each(|_| extend(&mut frame, 60, [0, 1, 4, 0, 0, 0]));
            }
            Self::IpOptions(words) if frame.len() >= L3 + 20 => {
                frame.splice(L3 + 20..L3 + 20, vec![1; 4 * usize::from(*words)]);
                frame[L3] = frame[L3].wrapping_add(*words);
                lengthen(&mut frame, 2, 4 * i16::from(*words));
                mend(&mut frame);
            }
            Self::Extension(kind, content) if is_v6 && frame.len() >= L3 + 40 => {
                extend(&mut frame, *kind, *content);
            }
            Self::Length(by) if frame.len() >= L3 + 6 => {
                lengthen(&mut frame, if is_v6 { 4 } else { 2 }, i16::from(*by));
            }
            Self::Pad(count) => frame.resize(frame.len() + usize::from(*count), 0xee),
            Self::Wrap(format, six) => {
                let peers = if *six { &PEERS_V6 } else { &PEERS };
                frame = tunnelled(&frame, peers[0], peers[4], *format);
            }
            Self::Mend => mend(&mut frame),
            _ => {}
        }
        frame
    }
}

/// Inserts an extension header of 8 bytes behind the IPv6 header. `content` begins with its length.
fn extend(frame: &mut Vec<u8>, kind: u8, content: [u8; 6]) {
    let [a, b, c, d, e, f] = content;
    let next = frame[L3 + 6];
    frame[L3 + 6] = kind;
    frame.splice(L3 + 40..L3 + 40, [next, a & 1, b, c, d, e, f, 0]);
    lengthen(frame, 4, 8);
}

fn lengthen(frame: &mut [u8], at: usize, by: i16) {
    let at = L3 + at;
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add_signed(by);
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

fn mend(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(L3..) else { return };
    if let Ok((header, _)) = Ipv4Header::from_slice(ip) {
        ip[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
}
