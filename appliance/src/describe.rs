//! One line about a frame, for people: endpoints, TCP flags, tunnel and tag.

use std::fmt::Write as _;

use pipeline::buffer::{Buffer, HeapBuffer};
use pipeline::family::V4;
use pipeline::stage::tag;
use pipeline::view::{Kind, Packet};
use pipeline::wire::{arp::Arp, ipv4, tcp};

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

/// Describes a frame.
pub fn frame(bytes: &[u8], format: tag::Format) -> String {
    nested(bytes, format, DEPTH)
}

/// Tunnels within tunnels that are looked into.
const DEPTH: usize = 4;

fn nested(bytes: &[u8], format: tag::Format, depth: usize) -> String {
    let packet = Packet::new(HeapBuffer::new(bytes));
    match packet.view.kind {
        Kind::Tcp4 => segment(&packet, format),
        Kind::Tunnel4 if depth == 0 => addresses(&packet, "tunnel"),
        Kind::Tunnel4 => {
            let ip = packet.ip();
            // The inner packet behind an Ethernet header of the same kind.
            let inner = [&bytes[..usize::from(packet.view.l3)], &bytes[packet.view.l4.into()..]];
            let inner = nested(&inner.concat(), format, depth - 1);
            format!("{} > {} {{ {inner} }}", ipv4::source(ip), ipv4::destination(ip))
        }
        Kind::Icmp4 => addresses(&packet, "ICMP"),
        Kind::FirstFragment4 | Kind::Fragment4 => addresses(&packet, "fragment"),
        Kind::Arp => Arp::parse(packet.ip()).map_or_else(
            || "ARP".to_owned(),
            |arp| format!("ARP operation {} {} > {}", arp.operation, arp.sender, arp.target),
        ),
        Kind::Other(verdict) => format!("{} bytes, {}", bytes.len(), verdict.name()),
    }
}

fn addresses(packet: &Packet<HeapBuffer>, what: &str) -> String {
    let ip = packet.ip();
    format!("{} > {} {what}", ipv4::source(ip), ipv4::destination(ip))
}

fn segment(packet: &Packet<HeapBuffer>, format: tag::Format) -> String {
    let flags = tcp::flags(packet.tcp()).0;
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|f| f.1).collect();
    let (from, to) = (packet.source::<V4>(), packet.destination::<V4>());
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
        }
        tag::Found::Bad => text.push_str(" bad tag"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::testing::Segment;

    #[test]
    fn says_what_matters() {
        let options = [253, 5, 0x4e, 0x52, 1, 1, 1, 1];
        let syn = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(&options);
        let format = tag::Format::default();
        let plain = "198.18.1.10:40000 > 203.0.113.10:80 [SYN] tag A";
        assert_eq!(frame(&syn.frame(), format), plain);
        let tunnelled = frame(&syn.tunnelled("203.0.113.10", "198.51.100.10"), format);
        assert_eq!(tunnelled, format!("203.0.113.10 > 198.51.100.10 {{ {plain} }}"));
        assert_eq!(frame(&[0; 20], format), "20 bytes, non_ip");
        let data = Segment::ack("198.18.1.10:1", "203.0.113.10:80", 7, 8).payload(b"GET /");
        assert!(frame(&data.frame(), format).ends_with("[ACK] 5 bytes"));
    }
}
