//! The tag: a TCP option in the SYN (op 210; docs/protocol.md).
//!
//! ```text
//!  kind  length  ExID (2 bytes)  flags  [key id  MAC (8 bytes)]
//! ```
//! Inserted behind the last option with NOPs up to a multiple of 4, taken out with them, so
//! that the option area comes out as the client sent it.

use std::fmt;

use arrayvec::ArrayVec;

use crate::buffer::Buffer;
use crate::family::Family;
use crate::stage::sign::Keys;
use crate::view::{Packet, View};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::tcp::{self, Options, TcpOption};

/// Length of the unsigned form.
pub const UNSIGNED: usize = 5;
/// Length of the signed form.
pub const SIGNED: usize = 14;
/// The most that a tag takes of the option area, padding included.
const MOST: usize = SIGNED.next_multiple_of(4);

const PERMITTED: u8 = 0x01;
const CONFIGURATION_SHIFT: u8 = 1;
const CONFIGURATION_MASK: u8 = 0x03;
/// In the flags: key id and MAC follow.
pub(super) const KEYED: u8 = 0x80;

/// Which option is the tag; the same at gateway, switch and replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// TCP option kind.
    pub kind: u8,
    /// Experiment identifier (RFC 6994).
    pub exid: u16,
}

impl Default for Format {
    fn default() -> Self {
        Self { kind: 253, exid: 0x4e52 }
    }
}

/// How gateway and winner exchange packets, as the tag carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Full NAT.
    #[default]
    A = 0,
    /// One-way NAT.
    B = 1,
    /// Tunnel both ways.
    C = 2,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Whether the SYN may go to replicas: the patent's two states.
    pub permitted: bool,
    /// The gateway's configuration; `None` for the value that has no meaning yet.
    pub configuration: Option<Code>,
    /// What stands behind the flags of a signed tag. A tag that is to be inserted has none: it
    /// is signed as the keys say.
    pub signature: Option<Signature>,
}

/// The signature that a tag came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The flags as they came, all of which it covers.
    pub flags: u8,
    /// Which key it was made with.
    pub key: u8,
    /// The MAC.
    pub mac: u64,
}

impl Tag {
    fn flags(self) -> u8 {
        let code = self.configuration.map_or(CONFIGURATION_MASK, |code| code as u8);
        u8::from(self.permitted) | code << CONFIGURATION_SHIFT
    }

    fn from_flags(flags: u8) -> Self {
        let configuration = match flags >> CONFIGURATION_SHIFT & CONFIGURATION_MASK {
            0 => Some(Code::A),
            1 => Some(Code::B),
            2 => Some(Code::C),
            _ => None,
        };
        Self { permitted: flags & PERMITTED != 0, configuration, signature: None }
    }

    fn signed(option: &[u8]) -> Self {
        let mut mac = [0; 8];
        mac.copy_from_slice(&option[6..SIGNED]);
        let (flags, key, mac) = (option[4], option[5], u64::from_be_bytes(mac));
        Self { signature: Some(Signature { flags, key, mac }), ..Self::from_flags(flags) }
    }
}

/// What reading a SYN's options for a tag came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No tag.
    None,
    /// A tag, the option's offset in the option area and its length.
    Tag(Tag, usize, usize),
    /// A tag whose length is not what its flags say.
    Bad,
}

impl Format {
    /// Whether this option is a tag, well-formed or not.
    pub fn matches(self, option: &TcpOption<'_>) -> bool {
        option.kind == self.kind && option.bytes.get(2..4) == Some(&self.exid.to_be_bytes()[..])
    }

    /// Looks for the tag. Options behind a malformed one are not seen.
    pub fn find(self, options: &[u8]) -> Found {
        let Some(option) = Options::new(options).flatten().find(|option| self.matches(option))
        else {
            return Found::None;
        };
        match (option.bytes.len(), option.bytes.get(4)) {
            (UNSIGNED, Some(flags)) if flags & KEYED == 0 => {
                Found::Tag(Tag::from_flags(*flags), option.at, UNSIGNED)
            }
            (SIGNED, Some(flags)) if flags & KEYED != 0 => {
                Found::Tag(Tag::signed(option.bytes), option.at, SIGNED)
            }
            _ => Found::Bad,
        }
    }

    fn option(self, flags: u8, signature: Option<(u8, u64)>) -> ArrayVec<u8, MOST> {
        let [high, low] = self.exid.to_be_bytes();
        let mut option = ArrayVec::new();
        match signature {
            None => option.extend([self.kind, UNSIGNED as u8, high, low, flags]),
            Some((key, mac)) => {
                option.extend([self.kind, SIGNED as u8, high, low, flags | KEYED, key]);
                option.extend(mac.to_be_bytes());
            }
        }
        while !option.len().is_multiple_of(4) {
            option.push(tcp::NOP);
        }
        option
    }
}

/// Puts a tag into a SYN behind its last option, signed if there is a key to sign with. The SYN
/// has passed [`super::classify::start`], so there is room in its option area and its options
/// are sound. `false`, and nothing changed, when the buffer has no headroom.
#[must_use]
pub fn insert<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    format: Format,
    tag: Tag,
    keys: &Keys,
) -> bool {
    let mut walk = Options::new(packet.options());
    walk.by_ref().for_each(drop);
    // NOPs in front of the end are the client's own padding; the walk has passed them.
    let at = walk.offset();
    let signature = keys.sign::<F, B>(packet, tag.flags());
    let option = format.option(tag.flags(), signature);
    let room = option.len();
    if !packet.buffer.prepend(room) {
        return false;
    }
    packet.buffer.truncate(packet.view.end as usize + room);
    let place = usize::from(packet.view.l4) + tcp::HEADER + at;
    let bytes = packet.buffer.head_mut();
    bytes.copy_within(room..room + place, 0);
    bytes[place..place + room].copy_from_slice(&option);
    let change = Delta::added(sum_at(at, &option));
    resize_header::<F, B>(packet, room as isize, change);
    true
}

/// Takes the tag at `at`, `length` bytes long, and its padding out of a SYN.
pub fn strip<F: Family, B: Buffer>(packet: &mut Packet<B>, at: usize, length: usize) {
    let area = packet.options();
    let padded = length.next_multiple_of(4);
    let is_padding = |nops: &[u8]| nops.iter().all(|&byte| byte == tcp::NOP);
    let ours = area.get(at + length..at + padded).is_some_and(is_padding);
    // Padded in another way: what is no multiple of 4 is overwritten by NOPs.
    let removed = if ours { padded } else { length / 4 * 4 };
    let mut change = Delta::removed(sum_at(at, &area[at..at + length]));
    if ours {
        change = change.plus(Delta::removed(sum_at(at + length, &area[at + length..at + padded])));
    }
    let place = usize::from(packet.view.l4) + tcp::HEADER + at;
    let bytes = packet.buffer.head_mut();
    if !ours {
        let rest = &mut bytes[place + removed..place + length];
        rest.fill(tcp::NOP);
        change = change.plus(Delta::added(sum_at(at + removed, rest)));
    }
    bytes.copy_within(0..place, removed);
    packet.buffer.trim_front(removed);
    packet.buffer.truncate(packet.view.end as usize - removed);
    resize_header::<F, B>(packet, -(removed as isize), change);
}

fn sum_at(offset: usize, bytes: &[u8]) -> Sum {
    if offset.is_multiple_of(2) { Sum::of(bytes) } else { Sum::of_at_odd(bytes) }
}

/// After `by` bytes came into the option area, or went: lengths, checksums, view.
fn resize_header<F: Family, B: Buffer>(packet: &mut Packet<B>, by: isize, change: Delta) {
    let View { l3, l4, payload, end, .. } = packet.view;
    let length = (end as usize).wrapping_add_signed(by) - usize::from(l3);
    let header = usize::from(payload - l4).wrapping_add_signed(by);
    F::set_length(packet.ip_mut(), length);
    let segment = |length: usize| (length - usize::from(l4 - l3)) as u16;
    let old_segment = segment(end as usize - usize::from(l3));
    let tcp = packet.tcp_mut();
    let delta = change
        .plus(tcp::set_header_length(tcp, header))
        .plus(Delta::word(old_segment, segment(length)));
    tcp::adjust(tcp, delta);
    packet.view.payload = payload.wrapping_add_signed(by as i16);
    packet.view.end = end.wrapping_add_signed(by as i32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::family::V4;
    use crate::testing::{LINUX_OPTIONS, Segment};

    const TAG: Tag = Tag { permitted: true, configuration: Some(Code::A), signature: None };
    const BYTES: [u8; 8] = [253, 5, 0x4e, 0x52, 1, 1, 1, 1];

    fn syn(options: &[u8]) -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(options)
    }

    fn packet(frame: &[u8]) -> Packet<HeapBuffer> {
        Packet::new(HeapBuffer::new(frame))
    }

    fn check_round_trip(options: &[u8], tagged: &[u8]) {
        let mut frame = syn(options).frame();
        let clean = frame.clone();
        frame.resize(frame.len().max(60), 0);
        let mut packet = packet(&frame);
        assert!(insert::<V4, _>(&mut packet, Format::default(), TAG, &Keys::default()));
        assert_eq!(packet.buffer.frame(), syn(tagged).frame());
        let Found::Tag(tag, at, length) = Format::default().find(packet.options()) else {
            panic!("no tag found");
        };
        assert_eq!((tag, length), (TAG, UNSIGNED));
        strip::<V4, _>(&mut packet, at, length);
        assert_eq!(packet.buffer.frame(), clean);
        assert_eq!(packet.view.end as usize, clean.len());
    }

    #[test]
    fn comes_behind_the_last_option_and_leaves_as_it_came() {
        check_round_trip(&[], &BYTES);
        check_round_trip(&LINUX_OPTIONS, &[&LINUX_OPTIONS[..], &BYTES].concat());
    }

    #[test]
    fn comes_before_the_end_of_list_even_at_an_odd_place() {
        let tail = [0, 0, 0, 0, 0];
        let options = [&[3, 3, 7][..], &tail].concat();
        check_round_trip(&options, &[&[3, 3, 7][..], &BYTES, &tail].concat());
        // NOPs in front are the client's own padding.
        check_round_trip(
            &[1, 1, 3, 3, 7, 1, 0, 0],
            &[&[1, 1, 3, 3, 7, 1][..], &BYTES, &[0, 0]].concat(),
        );
    }

    #[test]
    fn a_tag_that_others_padded_goes_without_a_trace_but_nops() {
        let options = [&[253, 5, 0x4e, 0x52, 1][..], &[3, 3, 7]].concat();
        let mut packet = packet(&syn(&options).frame());
        strip::<V4, _>(&mut packet, 0, UNSIGNED);
        assert_eq!(packet.buffer.frame(), syn(&[1, 3, 3, 7]).frame());
    }

    #[test]
    fn a_signed_tag_goes_too() {
        let mut options = vec![253, 14, 0x4e, 0x52, 0x85, 3, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        let found = Format::default().find(&options);
        let signature = Signature { flags: 0x85, key: 3, mac: 0x0102_0304_0506_0708 };
        let tag = Tag { permitted: true, configuration: Some(Code::C), signature: Some(signature) };
        assert_eq!(found, Found::Tag(tag, 0, SIGNED));
        options.extend(LINUX_OPTIONS);
        let mut packet = packet(&syn(&options).frame());
        strip::<V4, _>(&mut packet, 0, SIGNED);
        assert_eq!(packet.buffer.frame(), syn(&LINUX_OPTIONS).frame());
    }

    #[test]
    fn tells_tags_from_other_options() {
        let find = |options: &[u8]| Format::default().find(options);
        assert_eq!(find(&LINUX_OPTIONS), Found::None);
        assert_eq!(find(&[253, 4, 0x12, 0x34]), Found::None);
        assert_eq!(find(&[253, 4, 0x4e, 0x52]), Found::Bad);
        assert_eq!(find(&[253, 6, 0x4e, 0x52, 1, 0, 1, 1]), Found::Bad);
        assert_eq!(find(&[253, 5, 0x4e, 0x52, 0x81, 1, 1, 1]), Found::Bad);
        let none = Tag { permitted: false, configuration: None, signature: None };
        assert_eq!(find(&[253, 5, 0x4e, 0x52, 0x76, 1, 1, 1]), Found::Tag(none, 0, UNSIGNED));
    }

    #[test]
    fn without_headroom_nothing_changes() {
        let frame = syn(&LINUX_OPTIONS).frame();
        let mut packet = packet(&frame);
        assert!(packet.buffer.prepend(crate::buffer::HEADROOM - 4));
        packet.buffer.head_mut()[..14].copy_from_slice(&frame[..14]);
        packet.view.end += 4;
        assert!(!insert::<V4, _>(&mut packet, Format::default(), TAG, &Keys::default()));
    }
}
