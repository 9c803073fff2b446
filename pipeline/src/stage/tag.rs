//! The tag: a TCP option in the SYN (op 210; docs/protocol.md).
//!
//! ```text
//!  kind  length  ExID (2 bytes)  flags  [key id  MAC (8 bytes)]
//! ```
//! The gateway inserts it behind the last option, padded with NOPs to a multiple of 4 bytes. The
//! switch and the replica strip the tag and its padding, so that the server gets the options as the
//! client sent them.

use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, View};
use crate::stage::sign::KeysAt;
use crate::wire::checksum::{Delta, Sum};
pub use crate::wire::configuration::Configuration;
pub use crate::wire::copies::CopiesWanted;
use crate::wire::family::Family;
use crate::wire::tcp::{self, Options, TcpOption};

/// The length of an unsigned tag, in bytes, without padding.
pub const UNSIGNED: usize = 5;
/// The length of a signed tag, in bytes, without padding.
pub const SIGNED: usize = 14;

const PERMITTED: u8 = 0x01;
const CONFIGURATION_SHIFT: u8 = 1;
const CONFIGURATION_MASK: u8 = 0x03;
const COPIES_SHIFT: u8 = 3;
/// The flag that says that key id and MAC follow.
pub(super) const KEYED: u8 = 0x80;

/// The TCP option that is the tag; the same at gateway, switch and replica.
///
/// # Examples
/// The gateway inserts a tag into a SYN; the switch finds it, and strips it again.
///
/// ```
/// use firstack_packets::{LINUX_OPTIONS, Segment};
/// use pipeline::base::time::Ticks;
/// use pipeline::packet::buffer::HeapBuffer;
/// use pipeline::packet::view::Packet;
/// use pipeline::stage::sign::Keys;
/// use pipeline::stage::tag::{self, Configuration, CopiesWanted, Found, OptionId, Tag};
/// use pipeline::wire::family::V4;
///
/// let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 1000).options(&LINUX_OPTIONS);
/// let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
/// let option_id = OptionId::default();
/// assert_eq!(option_id.find(packet.options()), Found::None);
///
/// let tag = Tag::requesting(CopiesWanted::ALL, Configuration::C);
/// let keys = Keys::default();
/// assert!(tag::insert::<V4, _>(&mut packet, option_id, tag, keys.at(Ticks(0))));
/// let found = option_id.find(packet.options());
/// assert_eq!(found, Found::Tag(tag, LINUX_OPTIONS.len(), tag::UNSIGNED));
///
/// tag::strip::<V4, _>(&mut packet, LINUX_OPTIONS.len(), tag::UNSIGNED);
/// assert_eq!(packet.buffer.frame(), syn.frame());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionId {
    /// The TCP option kind.
    pub kind: u8,
    /// The experiment identifier (RFC 6994).
    pub exid: u16,
}

impl Default for OptionId {
    /// Kind 253 with experiment identifier 0x4e52.
    fn default() -> Self {
        Self { kind: 253, exid: 0x4e52 }
    }
}

/// The contents of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Whether the SYN may be copied to replicas: the patent's two states.
    pub permitted: bool,
    /// The gateway's configuration; `None` for the value that is not assigned.
    pub configuration: Option<Configuration>,
    /// How many copies the switch is asked for.
    pub copies: CopiesWanted,
    /// The signature of a received tag. A tag to be inserted has none: [`insert`] signs it if the
    /// keys say so.
    pub signature: Option<Signature>,
}

/// The signature of a received tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The flags as received. The signature covers all of them.
    pub flags: u8,
    /// The id of the key that generated it.
    pub key: u8,
    /// The message authentication code.
    pub mac: u64,
}

impl Tag {
    fn flags(self) -> u8 {
        let number = self.configuration.map_or(CONFIGURATION_MASK, |number| number as u8);
        u8::from(self.permitted)
            | number << CONFIGURATION_SHIFT
            | self.copies.bits() << COPIES_SHIFT
    }

    fn from_flags(flags: u8) -> Self {
        let number = flags >> CONFIGURATION_SHIFT & CONFIGURATION_MASK;
        let configuration = Configuration::try_from(number).ok();
        let copies = CopiesWanted::from_bits(flags >> COPIES_SHIFT);
        Self { permitted: flags & PERMITTED != 0, configuration, copies, signature: None }
    }

    /// Returns the tag that a gateway of this configuration inserts.
    pub const fn requesting(copies: CopiesWanted, configuration: Configuration) -> Self {
        Self { permitted: true, configuration: Some(configuration), copies, signature: None }
    }

    fn signed(option: &[u8]) -> Self {
        let mut mac = [0; 8];
        mac.copy_from_slice(&option[6..SIGNED]);
        let (flags, key, mac) = (option[4], option[5], u64::from_be_bytes(mac));
        Self { signature: Some(Signature { flags, key, mac }), ..Self::from_flags(flags) }
    }
}

/// The result of looking for a tag in a SYN's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No tag.
    None,
    /// A tag, the option's offset in the option area, and its length in bytes without padding.
    Tag(Tag, usize, usize),
    /// A tag whose length contradicts its flags.
    Bad,
}

impl OptionId {
    /// Returns whether this option is a tag, well-formed or not.
    pub fn matches(self, option: &TcpOption<'_>) -> bool {
        option.kind == self.kind && option.bytes.get(2..4) == Some(&self.exid.to_be_bytes()[..])
    }

    /// Finds the tag in a SYN's options. Options behind a malformed one are not looked at.
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

    /// Finds an option that has the form of a tag, with another kind for experiments or another
    /// experiment identifier: of an appliance that is configured differently. Returns the identifier.
    pub fn find_other(self, options: &[u8]) -> Option<u16> {
        Options::new(options).flatten().find_map(|option| {
            let exid = u16::from_be_bytes(*option.bytes.get(2..4)?.first_chunk()?);
            let keyed = option.bytes.get(4)? & KEYED != 0;
            let has_form = option.bytes.len() == if keyed { SIGNED } else { UNSIGNED };
            // A cookie of TCP Fast Open can be as long as a tag.
            let is_other = tcp::EXPERIMENTS.contains(&option.kind) && exid != tcp::FAST_OPEN_EXID;
            (has_form && is_other && !self.matches(&option)).then_some(exid)
        })
    }

    /// Returns a tag without a signature, and its padding.
    fn unsigned(self, flags: u8) -> [u8; UNSIGNED.next_multiple_of(4)] {
        let [high, low] = self.exid.to_be_bytes();
        let mut option = [tcp::NOP; _];
        option[..UNSIGNED].copy_from_slice(&[self.kind, UNSIGNED as u8, high, low, flags]);
        option
    }

    /// Returns a signed tag, and its padding.
    fn signed(self, flags: u8, key: u8, mac: u64) -> [u8; SIGNED.next_multiple_of(4)] {
        let [high, low] = self.exid.to_be_bytes();
        let mut option = [tcp::NOP; _];
        option[..6].copy_from_slice(&[self.kind, SIGNED as u8, high, low, flags | KEYED, key]);
        option[6..SIGNED].copy_from_slice(&mac.to_be_bytes());
        option
    }
}

/// Inserts a tag behind the last option of a SYN, signed if `keys` has a key to sign with (op 210).
///
/// The SYN must have passed [`super::classify::syn`]: its options are well-formed and leave space
/// for the tag. Returns `false`, and changes nothing, when the buffer has no headroom.
#[must_use]
pub fn insert<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    option_id: OptionId,
    tag: Tag,
    keys: KeysAt<'_>,
) -> bool {
    // NOPs in front of the end of the list are the client's padding: the tag comes behind them.
    let (at, flags) = (Options::end(packet.options()), tag.flags());
    match keys.sign::<F, B>(packet, flags) {
        None => insert_at::<_, F, B>(packet, at, option_id.unsigned(flags)),
        Some((key, mac)) => insert_at::<_, F, B>(packet, at, option_id.signed(flags, key, mac)),
    }
}

/// Inserts an option of constant length into the option area. Returns `false`, and changes nothing,
/// when the buffer has no headroom.
#[inline(always)]
fn insert_at<const LENGTH: usize, F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    at: usize,
    option: [u8; LENGTH],
) -> bool {
    if !packet.buffer.prepend(LENGTH) {
        return false;
    }
    packet.buffer.truncate(packet.view.end as usize + LENGTH);
    let place = usize::from(packet.view.l4) + tcp::HEADER + at;
    let bytes = packet.buffer.head_mut();
    bytes.copy_within(LENGTH..LENGTH + place, 0);
    bytes[place..place + LENGTH].copy_from_slice(&option);
    let change = Delta::added(sum_at(at, &option));
    resize_header::<F, B>(packet, LENGTH as isize, change);
    true
}

/// Strips a tag and its padding from a SYN. `at` and `length` are those of [`Found::Tag`].
pub fn strip<F: Family, B: Buffer>(packet: &mut Packet<B>, at: usize, length: usize) {
    let area = packet.options();
    let padded = length.next_multiple_of(4);
    let is_padding = |nops: &[u8]| nops.iter().all(|&byte| byte == tcp::NOP);
    let ours = area.get(at + length..at + padded).is_some_and(is_padding);
    // Without the gateway's padding, only a multiple of 4 bytes is removed; the rest becomes NOPs.
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

#[inline(always)]
fn sum_at(offset: usize, bytes: &[u8]) -> Sum {
    if offset.is_multiple_of(2) { Sum::of(bytes) } else { Sum::of_at_odd(bytes) }
}

/// Updates lengths, checksums and view after the option area has grown by `by` bytes. `change` is
/// what the option bytes changed in the TCP checksum.
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
    use crate::base::time::Ticks;
    use crate::packet::buffer::HeapBuffer;
    use crate::stage::sign::Keys;
    use crate::testing::{LINUX_OPTIONS, Segment};
    use crate::wire::family::V4;

    const TAG: Tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);
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
        assert!(insert::<V4, _>(
            &mut packet,
            OptionId::default(),
            TAG,
            Keys::default().at(Ticks(0))
        ));
        assert_eq!(packet.buffer.frame(), syn(tagged).frame());
        let Found::Tag(tag, at, length) = OptionId::default().find(packet.options()) else {
            panic!("no tag found");
        };
        assert_eq!((tag, length), (TAG, UNSIGNED));
        strip::<V4, _>(&mut packet, at, length);
        assert_eq!(packet.buffer.frame(), clean);
        assert_eq!(packet.view.end as usize, clean.len());
    }

    #[test]
    fn is_inserted_behind_the_last_option_and_stripped_without_a_trace() {
        check_round_trip(&[], &BYTES);
        check_round_trip(&LINUX_OPTIONS, &[&LINUX_OPTIONS[..], &BYTES].concat());
    }

    #[test]
    fn is_inserted_before_the_end_of_list_even_at_an_odd_offset() {
        let tail = [0, 0, 0, 0, 0];
        let options = [&[3, 3, 7][..], &tail].concat();
        check_round_trip(&options, &[&[3, 3, 7][..], &BYTES, &tail].concat());
        // NOPs in front of the end are the client's padding.
        check_round_trip(
            &[1, 1, 3, 3, 7, 1, 0, 0],
            &[&[1, 1, 3, 3, 7, 1][..], &BYTES, &[0, 0]].concat(),
        );
    }

    #[test]
    fn a_tag_without_the_gateways_padding_leaves_nops_behind() {
        let options = [&[253, 5, 0x4e, 0x52, 1][..], &[3, 3, 7]].concat();
        let mut packet = packet(&syn(&options).frame());
        strip::<V4, _>(&mut packet, 0, UNSIGNED);
        assert_eq!(packet.buffer.frame(), syn(&[1, 3, 3, 7]).frame());
    }

    #[test]
    fn a_signed_tag_is_found_and_stripped() {
        let mut options = vec![253, 14, 0x4e, 0x52, 0x85, 3, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        let found = OptionId::default().find(&options);
        let signature = Signature { flags: 0x85, key: 3, mac: 0x0102_0304_0506_0708 };
        let tag = Tag {
            signature: Some(signature),
            ..Tag::requesting(CopiesWanted::ALL, Configuration::C)
        };
        assert_eq!(found, Found::Tag(tag, 0, SIGNED));
        options.extend(LINUX_OPTIONS);
        let mut packet = packet(&syn(&options).frame());
        strip::<V4, _>(&mut packet, 0, SIGNED);
        assert_eq!(packet.buffer.frame(), syn(&LINUX_OPTIONS).frame());
    }

    #[test]
    fn find_tells_tags_from_other_options() {
        let find = |options: &[u8]| OptionId::default().find(options);
        assert_eq!(find(&LINUX_OPTIONS), Found::None);
        assert_eq!(find(&[253, 4, 0x12, 0x34]), Found::None);
        assert_eq!(find(&[253, 4, 0x4e, 0x52]), Found::Bad);
        assert_eq!(find(&[253, 6, 0x4e, 0x52, 1, 0, 1, 1]), Found::Bad);
        assert_eq!(find(&[253, 5, 0x4e, 0x52, 0x81, 1, 1, 1]), Found::Bad);
        let none = Tag {
            permitted: false,
            configuration: None,
            ..Tag::requesting(CopiesWanted::from_bits(14), Configuration::A)
        };
        assert_eq!(find(&[253, 5, 0x4e, 0x52, 0x76, 1, 1, 1]), Found::Tag(none, 0, UNSIGNED));
        for copies in [CopiesWanted::at_most(1), CopiesWanted::NONE] {
            let tag = Tag::requesting(copies, Configuration::B);
            let option = [253, 5, 0x4e, 0x52, tag.flags(), 1, 1, 1];
            assert_eq!(find(&option), Found::Tag(tag, 0, UNSIGNED));
        }
    }

    #[test]
    fn without_headroom_nothing_changes() {
        let frame = syn(&LINUX_OPTIONS).frame();
        let mut packet = packet(&frame);
        assert!(packet.buffer.prepend(crate::packet::buffer::HEADROOM - 4));
        packet.buffer.head_mut()[..14].copy_from_slice(&frame[..14]);
        packet.view.end += 4;
        assert!(!insert::<V4, _>(
            &mut packet,
            OptionId::default(),
            TAG,
            Keys::default().at(Ticks(0))
        ));
    }
}
