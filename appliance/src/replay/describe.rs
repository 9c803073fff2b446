//! A one-line description of a frame: endpoints, TCP flags, tunnel and tag.

use std::fmt::Write as _;

use pipeline::packet::buffer::{Buffer, HeapBuffer};
use pipeline::packet::view::{Kind, Packet};
use pipeline::stage::tag;
use pipeline::wire::family::{Family, V4, V6, Version};
use pipeline::wire::tunnel::Format;
use pipeline::wire::{arp::Arp, tcp};

const FLAGS: [(u8, &str); 8] = [
    (0x02, "SYN"),
    (0x10, "ACK"),
    (0x01, "FIN"),
    (0x04, "RST"),
    (0x08, "PSH"),
    (0x20, "URG"),
    (0x40, "ECE"),
    (0x80, "CWR"),
];

/// Returns a one-line description of an Ethernet frame. `format` is the tag's TCP option.
pub fn frame(bytes: &[u8], format: tag::OptionId) -> String {
    nested(bytes, format, DEPTH)
}

/// The most nested tunnels that are described.
const DEPTH: usize = 4;

fn nested(bytes: &[u8], format: tag::OptionId, depth: usize) -> String {
    let packet = Packet::new(HeapBuffer::new(bytes));
    let view = packet.view;
    match view.kind {
        Kind::Tcp => match view.version {
            Version::V4 => segment::<V4>(&packet, format),
            Version::V6 => segment::<V6>(&packet, format),
        },
        Kind::Tunnel if depth == 0 => addresses(&packet, "tunnel"),
        Kind::Tunnel => {
            // The inner packet is described behind an Ethernet header of its own.
            let inner = view.inner(bytes).version.ethertype().to_be_bytes();
            let ethernet = &bytes[..usize::from(view.l3) - 2];
            let inner = [ethernet, &inner, &bytes[view.payload.into()..]];
            let inner = nested(&inner.concat(), format, depth - 1);
            // IP in IP has no header to be named.
            let name = match view.tunnel_format(bytes) {
                None | Some(Format::Ipip) => String::new(),
                Some(format) => format!(" {}", format.name().to_uppercase()),
            };
            format!("{}{name} {{ {inner} }}", addresses(&packet, "").trim_end())
        }
        Kind::BadTunnel => addresses(&packet, "bad tunnel"),
        Kind::Icmp => addresses(&packet, "ICMP"),
        Kind::FirstFragment | Kind::Fragment => addresses(&packet, "fragment"),
        Kind::Arp => Arp::parse(packet.ip()).map_or_else(
            || "ARP".to_owned(),
            |arp| format!("ARP operation {} {} > {}", arp.operation, arp.sender, arp.target),
        ),
        Kind::Other(verdict) => format!("{} bytes, {}", bytes.len(), verdict.name()),
    }
}

fn addresses(packet: &Packet<HeapBuffer>, what: &str) -> String {
    let (source, destination) = packet.view.addresses(packet.buffer.head());
    format!("{source} > {destination} {what}")
}

fn segment<F: Family>(packet: &Packet<HeapBuffer>, format: tag::OptionId) -> String {
    let flags = tcp::flags(packet.tcp()).0;
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|f| f.1).collect();
    let (from, to) = (packet.source::<F>(), packet.destination::<F>());
    let mut text = format!("{from:?} > {to:?} [{}]", names.join(","));
    let data =
        packet.buffer.frame_len().min(packet.view.end as usize) - usize::from(packet.view.payload);
    if data > 0 {
        let _ = write!(text, " {data} bytes");
    }
    match format.find(packet.options()) {
        tag::Found::None => {}
        tag::Found::Tag(tag, ..) => {
            let code = tag.configuration.map_or_else(|| "?".to_owned(), |code| format!("{code:?}"));
            let state = if tag.permitted { "" } else { ", not permitted" };
            let _ = write!(text, " tag {code}{state}");
            if tag.copies != tag::CopiesWanted::ALL {
                let _ = write!(text, ", copies {}", tag.copies);
            }
            if let Some(signature) = tag.signature {
                let _ = write!(text, ", signed with key {}", signature.key);
            }
        }
        tag::Found::Bad => text.push_str(" bad tag"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstack_packets::{Format, Segment, ethernet_frame, tunnel_in};

    #[test]
    fn says_what_matters() {
        let options = [253, 5, 0x4e, 0x52, 1, 1, 1, 1];
        let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(&options);
        let format = tag::OptionId::default();
        let plain = "198.18.1.10:40000 > 203.0.113.10:80 [SYN] tag A";
        assert_eq!(frame(&syn.frame(), format), plain);
        let tunnelled = frame(&syn.tunnelled("203.0.113.10", "198.51.100.10"), format);
        assert_eq!(tunnelled, format!("203.0.113.10 > 198.51.100.10 {{ {plain} }}"));
        assert_eq!(frame(&[0; 20], format), "20 bytes, non_ip");
        let data = Segment::ack("198.18.1.10:1", "203.0.113.10:80", 7, 8).payload(b"GET /");
        assert!(frame(&data.frame(), format).ends_with("[ACK] 5 bytes"));
    }

    #[test]
    fn says_how_many_copies_are_wanted() {
        let shown = |flags| {
            let options = [253, 5, 0x4e, 0x52, flags, 1, 1, 1];
            let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(&options);
            frame(&syn.frame(), tag::OptionId::default()).split_once("] ").unwrap().1.to_owned()
        };
        assert_eq!(shown(0x09), "tag A, copies 1");
        assert_eq!(shown(0x73), "tag B, copies 14");
        assert_eq!(shown(0x7c), "tag C, not permitted, copies none");
    }

    #[test]
    fn says_it_of_ipv6_and_every_tunnel() {
        let syn = Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7);
        let plain = "[2001:db8::1]:40000 > [2001:db8::2]:80 [SYN]";
        let format = tag::OptionId::default();
        assert_eq!(frame(&syn.frame(), format), plain);
        for (how, name) in [(Format::IPIP, ""), (Format::GRE, " GRE"), (Format::GUE, " GUE")] {
            let packet = tunnel_in(how, ("192.0.2.1", "192.0.2.2"), (0, 5), &syn.packet());
            let shown = frame(&ethernet_frame(syn.macs, &packet), format);
            assert_eq!(shown, format!("192.0.2.1 > 192.0.2.2{name} {{ {plain} }}"));
        }
    }
}
