//! Tags in packets that ICMP errors quote. A router that discards a tagged SYN quotes it with its
//! tag, to the client: without this stage any client could have signatures made for its own
//! endpoint, and see them.

use super::quote::Quoted;
use super::tag::{OptionId, SIGNED, UNSIGNED};
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::family::Family;
use crate::wire::tcp::{self, Options};
use crate::wire::{icmp, ipv4, ipv6};

/// A tag in the SYN that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedTag {
    /// Offset of the tag in the ICMP message.
    at: usize,
    /// Length of the tag, in bytes, without padding.
    length: usize,
    /// Offset of the end of the quote.
    end: usize,
}

/// Finds the tag in the SYN that an ICMP error quotes, whole or cut at the end of the quote. `None`
/// when the quote ends before the tag's ExID, which reveals nothing.
pub fn find<F: Family, B: Buffer>(
    packet: &Packet<B>,
    quoted: &Quoted<F>,
    id: OptionId,
) -> Option<QuotedTag> {
    let head = packet.buffer.head();
    let message =
        head.get(usize::from(packet.view.l4)..head.len().min(packet.view.end as usize))?;
    let end = icmp::quote_end(F::VERSION, message).unwrap_or(message.len()).min(message.len());
    let at = quoted.tcp_offset();
    let header = message.get(at..end)?;
    if header.len() < tcp::HEADER || !tcp::flags(header).is_syn() {
        return None;
    }
    let options_end = tcp::header_length(header);
    let area = header.get(tcp::HEADER..header.len().min(options_end))?;
    let mut options = Options::new(area);
    let found = options.by_ref().flatten().find(|option| id.matches(option));
    let (place, length) = match found {
        Some(option) => (option.at, option.bytes.len()),
        // An option that the end of the quote cuts.
        None if options_end > header.len() => {
            let [kind, length, exid @ ..] = area.get(options.offset()..)? else { return None };
            if *kind != id.kind || exid.get(..2) != Some(&id.exid.to_be_bytes()[..]) {
                return None;
            }
            (options.offset(), usize::from(*length))
        }
        None => return None,
    };
    matches!(length, UNSIGNED | SIGNED).then_some(QuotedTag {
        at: at + tcp::HEADER + place,
        length,
        end,
    })
}

/// Strips the tag from the SYN that an ICMP error quotes, and updates lengths and checksums in the
/// quote as far as it reaches, and those of the error. An incorrect checksum of the error stays
/// incorrect by the same amount.
pub fn strip<F: Family, B: Buffer>(packet: &mut Packet<B>, quoted: &Quoted<F>, tag: QuotedTag) {
    let QuotedTag { at, length, end } = tag;
    let l4 = usize::from(packet.view.l4);
    let whole = packet.view.end as usize - l4;
    let limit = packet.buffer.head().len().min(packet.view.end as usize);
    let message = &mut packet.buffer.head_mut()[l4..limit];
    let before = Sum::of(message);
    let padded = length.next_multiple_of(4);
    let removed = padded.min(end - at);
    let is_ours = message[at + length.min(removed)..at + removed].iter().all(|b| *b == tcp::NOP);
    // Without the gateway's padding, or in an error of several segments, nothing moves.
    if !is_ours || message.len() < whole {
        let tag = length.min(removed);
        let change = Delta::removed(sum_at(at, &message[at..at + tag]));
        message[at..at + tag].fill(tcp::NOP);
        let change = change.plus(Delta::added(sum_at(at, &message[at..at + tag])));
        adjust_tcp(&mut message[quoted.tcp_offset()..], removed == padded, change);
        let after = Sum::of(message);
        icmp::adjust(message, Delta::removed(before).plus(Delta::added(after)));
        return;
    }
    shorten_headers::<F>(message, quoted, tag, removed == padded);
    message.copy_within(at + removed..end, at);
    message[end - removed..end].fill(0);
    if removed < padded {
        restore_checksum::<F>(&mut message[..end - removed], quoted);
    }
    // Extensions stand behind a quote of fixed length (RFC 4884).
    let cut = if end == message.len() { removed } else { 0 };
    let after = Sum::of(&message[..message.len() - cut]);
    let mut change = Delta::removed(before).plus(Delta::added(after));
    if F::VERSION.is_v6() {
        change = change.plus(Delta::word(whole as u16, (whole - cut) as u16));
    }
    icmp::adjust(message, change);
    packet.buffer.truncate(packet.view.end as usize - cut);
    packet.view.end -= cut as u32;
    let length = packet.ip_len();
    F::set_length(packet.ip_mut(), length);
}

/// Makes the quoted IP and TCP headers those of the SYN without its tag, which is still there.
fn shorten_headers<F: Family>(
    message: &mut [u8],
    quoted: &Quoted<F>,
    tag: QuotedTag,
    is_whole: bool,
) {
    let padded = tag.length.next_multiple_of(4);
    let tcp_at = quoted.tcp_offset();
    let option = &message[tag.at..(tag.at + padded).min(tag.end)];
    let mut change = Delta::removed(sum_at(tag.at, option));
    let (ip, tcp) = message[quoted.ip_offset()..].split_at_mut(tcp_at - quoted.ip_offset());
    let length = match F::VERSION.is_v6() {
        true => ipv6::length(ip),
        false => ipv4::total_length(ip).into(),
    };
    F::set_length(ip, length.saturating_sub(padded));
    let segment = (length.saturating_sub(ip.len())) as u16;
    let header = tcp::header_length(tcp).saturating_sub(padded).max(tcp::HEADER);
    change = change
        .plus(tcp::set_header_length(tcp, header))
        .plus(Delta::word(segment, segment.saturating_sub(padded as u16)));
    adjust_tcp(tcp, is_whole, change);
}

/// Computes the TCP checksum of a quoted SYN that is quoted as a whole without its tag. It had the
/// right one, otherwise it would not have been tagged.
fn restore_checksum<F: Family>(message: &mut [u8], quoted: &Quoted<F>) {
    let (ip, tcp) =
        message[quoted.ip_offset()..].split_at_mut(quoted.tcp_offset() - quoted.ip_offset());
    if tcp.len() == tcp::header_length(tcp) {
        let pseudo = F::pseudo_header(F::source(ip), F::destination(ip), ipv4::TCP, tcp.len());
        tcp::adjust(tcp, Delta::added(Sum::of(tcp).plus(pseudo)));
    }
}

/// Updates the quoted TCP checksum. If a part of the tag is not quoted, its value is not known.
fn adjust_tcp(tcp: &mut [u8], is_whole: bool, change: Delta) {
    match is_whole {
        true => tcp::adjust(tcp, change),
        false => tcp::clear_checksum(tcp),
    }
}

fn sum_at(offset: usize, bytes: &[u8]) -> Sum {
    if offset.is_multiple_of(2) { Sum::of(bytes) } else { Sum::of_at_odd(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Ticks;
    use crate::packet::buffer::HeapBuffer;
    use crate::stage::quote;
    use crate::stage::sign::Keys;
    use crate::stage::tag::{self, Configuration, CopiesWanted, Tag};
    use crate::testing::{LINUX_OPTIONS, Segment, icmp_error};
    use crate::wire::family::{V4, V6};

    const ENDS: [(&str, &str); 2] = [
        ("198.18.1.10:40000", "203.0.113.10:80"),
        ("[2001:db8:100::10]:40000", "[2001:db8:2::10]:80"),
    ];

    /// Returns a SYN as its client sends it and as the gateway tags it: the whole IP packets.
    fn packets<F: Family>(ends: (&str, &str), options: &[u8], keys: &Keys) -> [Vec<u8>; 2] {
        let syn = Segment::syn(ends.0, ends.1, 7).options(options);
        let mut packet = Packet::new(HeapBuffer::new(&syn.frame()));
        let tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);
        let keys = keys.at(Ticks(0));
        assert!(tag::insert::<F, _>(&mut packet, OptionId::default(), tag, keys));
        [syn.packet(), packet.ip().to_vec()]
    }

    /// Returns a router's "time exceeded" that quotes so much of a packet.
    fn error<F: Family>(quoted: &[u8], bytes: usize) -> Vec<u8> {
        let quoted = &quoted[..bytes.min(quoted.len())];
        match F::VERSION.is_v6() {
            true => icmp_error("2001:db8::9", "2001:db8:100::10", 3, 0, quoted),
            false => icmp_error("192.0.2.1", "198.18.1.10", 11, 0, quoted),
        }
    }

    /// Strips what there is to strip from an error. Returns whether there was.
    fn clean<F: Family>(frame: &[u8]) -> (bool, Packet<HeapBuffer>) {
        let mut packet = Packet::new(HeapBuffer::new(frame));
        let quoted = quote::read::<F, _>(&packet).unwrap();
        let found = find(&packet, &quoted, OptionId::default());
        if let Some(tag) = found {
            strip(&mut packet, &quoted, tag);
        }
        (found.is_some(), packet)
    }

    fn check_whole<F: Family>(ends: (&str, &str)) {
        let options: [&[u8]; 4] =
            [&LINUX_OPTIONS, &[], &[3, 3, 7, 0], &[2, 4, 5, 0xb4, 3, 3, 7, 0]];
        for keys in [Keys::default(), Keys::new([(3, [7; 16])], Some(3))] {
            for options in options {
                let [sent, tagged] = packets::<F>(ends, options, &keys);
                let (found, packet) = clean::<F>(&error::<F>(&tagged, 1000));
                assert!(found);
                assert_eq!(packet.buffer.frame(), error::<F>(&sent, 1000));
                assert_eq!(packet.view.end as usize, packet.buffer.frame().len());
                let (found, packet) = clean::<F>(&error::<F>(&sent, 1000));
                assert!(!found);
                assert_eq!(packet.buffer.frame(), error::<F>(&sent, 1000));
            }
        }
    }

    #[test]
    fn an_error_without_the_tag_equals_one_about_the_syn_as_its_client_sent_it() {
        check_whole::<V4>(ENDS[0]);
        check_whole::<V6>(ENDS[1]);
    }

    /// However much is quoted, no byte of the MAC is left.
    fn check_cut<F: Family>(ends: (&str, &str)) {
        let keys = Keys::new([(3, [7; 16])], Some(3));
        let [sent, tagged] = packets::<F>(ends, &LINUX_OPTIONS, &keys);
        let tag = tagged.windows(4).position(|bytes| bytes == [253, 14, 0x4e, 0x52]).unwrap();
        for bytes in F::HEADER + 8..tagged.len() {
            let frame = error::<F>(&tagged, bytes);
            let (found, packet) = clean::<F>(&frame);
            assert_eq!(found, bytes >= tag + 4, "{bytes} bytes quoted");
            if !found {
                assert_eq!(packet.buffer.frame(), frame);
                continue;
            }
            let quoted = &packet.buffer.frame()[14 + F::HEADER + 8..];
            assert_eq!(quoted, sent, "{bytes} bytes quoted");
            assert!(quote::checksum_ok::<F, _>(&packet), "{bytes} bytes quoted");
        }
    }

    #[test]
    fn a_tag_that_is_cut_at_the_end_of_the_quote_is_removed_as_well() {
        check_cut::<V4>(ENDS[0]);
        check_cut::<V6>(ENDS[1]);
    }

    #[test]
    fn extensions_behind_the_quote_stay_where_they_are() {
        let keys = Keys::new([(3, [7; 16])], Some(3));
        let quote = |syn: &[u8]| {
            let mut message = syn.to_vec();
            message.resize(128, 0);
            message.extend([0x20, 0, 0, 0, 0, 4, 9, 9]);
            message
        };
        let with_length = |frame: Vec<u8>| {
            let mut frame = frame;
            frame[14 + 20 + 5] = 32;
            frame[14 + 20 + 2..14 + 20 + 4].fill(0);
            let sum = Sum::of(&frame[14 + 20..]).checksum();
            frame[14 + 20 + 2..14 + 20 + 4].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let [sent, tagged] = packets::<V4>(ENDS[0], &LINUX_OPTIONS, &keys);
        let (found, packet) = clean::<V4>(&with_length(error::<V4>(&quote(&tagged), 1000)));
        assert!(found);
        assert_eq!(packet.buffer.frame(), with_length(error::<V4>(&quote(&sent), 1000)));
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_and_other_padding_stays() {
        let keys = Keys::new([(3, [7; 16])], Some(3));
        let [_, mut tagged] = packets::<V4>(ENDS[0], &LINUX_OPTIONS, &keys);
        let mut frame = error::<V4>(&tagged, 1000);
        frame[14 + 20 + 2] ^= 0x40;
        let (found, packet) = clean::<V4>(&frame);
        assert!(found && !quote::checksum_ok::<V4, _>(&packet));
        // Padded by another device: the tag is overwritten, and nothing moves.
        let end = tagged.len();
        tagged[end - 2..].copy_from_slice(&[0, 0]);
        let frame = error::<V4>(&tagged, 1000);
        let (found, packet) = clean::<V4>(&frame);
        assert!(found && quote::checksum_ok::<V4, _>(&packet));
        assert_eq!(packet.buffer.frame().len(), frame.len());
        assert_eq!(packet.buffer.frame()[frame.len() - 16..], [&[1; 14][..], &[0, 0]].concat());
    }
}
