//! Frames and packets in full.

use std::fmt::Write as _;

use firstack_packets::icmp::{self, NEIGHBOUR_FLAGS};
use firstack_packets::tag::Signed;
use firstack_packets::tunnel::{GUE_PORT, GUE_SOURCE};
use firstack_packets::{
    Arp, Body, Content, Extension, FLAGS, Format, Frame, Gre, Gue, Header, Icmp, Ip, Mac,
    Neighbour, Payload, Sum, Tcp, Udp,
};

use super::change;
use crate::scenario::names::Names;
use crate::scenario::notation::{Scope, WINDOW, pattern, show_extensions};
use crate::scenario::options;
use crate::scenario::to_hex;

/// A frame.
pub(super) fn frame(frame: &Frame, scope: Scope<'_>) -> String {
    let names = scope.names;
    let mut usual = (names.mac(scope.macs.0).ok(), names.mac(scope.macs.1).ok());
    let mut text = match &frame.body {
        Body::Ip(Ip { payload: Payload::Neighbour(neighbour), .. }) => {
            let (text, macs) = neighbour_line(frame, neighbour, names);
            usual = (Some(macs.0), Some(macs.1));
            text
        }
        Body::Ip(ip) => packet(ip, scope),
        Body::Arp(arp) => arp_line(arp, names),
        Body::Other(kind, data) => format!("ether={kind:04x} data=x{}", to_hex(data)),
        Body::Raw(bytes) => format!("raw {}", to_hex(bytes)),
    };
    for (key, mac, usual) in [("to", frame.to, usual.0), ("from", frame.from, usual.1)] {
        if Some(mac) != usual {
            let _ = write!(text, " {key}={}", names.show_mac(mac));
        }
    }
    if !frame.vlans.is_empty() {
        let tags: Vec<_> =
            frame.vlans.iter().map(|(tpid, tci)| format!("{tpid:04x}:{tci}")).collect();
        let _ = write!(text, " vlan={}", tags.join(","));
    }
    if frame.padding > 0 {
        let _ = write!(text, " pad={}", frame.padding);
    }
    for (at, bytes) in &frame.patches {
        let _ = write!(text, " patch={at}:{}", to_hex(bytes));
    }
    text
}

fn arp_line(arp: &Arp, names: &Names) -> String {
    let station = |(mac, address): (Mac, std::net::Ipv4Addr)| {
        format!("{}/{}", names.show_mac(mac), names.show_address(address.into()))
    };
    let operation = match arp.operation {
        1 => "request".to_owned(),
        2 => "reply".to_owned(),
        other => other.to_string(),
    };
    format!("arp {operation} {} > {}", station(arp.sender), station(arp.target))
}

/// A solicitation or advertisement, and the MAC addresses that the frame has if nothing else is
/// said.
fn neighbour_line(frame: &Frame, neighbour: &Neighbour, names: &Names) -> (String, (Mac, Mac)) {
    let Body::Ip(ip) = &frame.body else { return (String::new(), (frame.to, frame.from)) };
    let from = neighbour.mac.unwrap_or(frame.from);
    let (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) = ip.ends() else {
        return (String::new(), (frame.to, from));
    };
    let station = |mac, address| format!("{}/{}", names.show_mac(mac), names.show_address(address));
    let group = Neighbour::multicast_mac(destination);
    let node = Neighbour::solicited_node(neighbour.target);
    let (to, usual, target, flags) = if neighbour.solicits && destination == node {
        (names.show_address(neighbour.target.into()), group, neighbour.target, 0)
    } else if !neighbour.solicits && destination.to_string() == "ff02::1" {
        ("all".to_owned(), group, source, 0x20)
    } else {
        let target = if neighbour.solicits { destination } else { source };
        let flags = if neighbour.solicits { 0 } else { 0x60 };
        (station(frame.to, ip.destination), frame.to, target, flags)
    };
    let word = if neighbour.solicits { "solicit" } else { "advert" };
    let mut text = format!("nd {word} {} > {to}", station(from, ip.source));
    if neighbour.target != target {
        let _ = write!(text, " target={}", names.show_address(neighbour.target.into()));
    }
    if neighbour.flags != flags {
        let letters: String = NEIGHBOUR_FLAGS
            .iter()
            .filter(|(_, bit)| neighbour.flags & bit != 0)
            .map(|(letter, _)| *letter)
            .collect();
        let _ = write!(text, " flags={}", if letters.is_empty() { "none" } else { &letters });
    }
    let mac = (!source.is_unspecified()).then_some(from);
    if neighbour.mac != mac {
        let shown = neighbour.mac.map_or("none".to_owned(), |mac| names.show_mac(mac));
        let _ = write!(text, " lla={shown}");
    }
    text += &header(ip, 255);
    (text, (usual, from))
}

/// A packet.
pub(super) fn packet(ip: &Ip, scope: Scope<'_>) -> String {
    let names = scope.names;
    let (from, to) = match ip.payload.ports() {
        Some((source, destination)) => {
            (names.show((ip.source, source)), names.show((ip.destination, destination)))
        }
        None => (names.show_address(ip.source), names.show_address(ip.destination)),
    };
    let rest = match &ip.payload {
        Payload::Tcp(tcp) => tcp_words(ip, tcp, names),
        Payload::Udp(udp) => format!(" udp{}{}", sum(udp), data_attribute(&udp.data)),
        Payload::Tunnel(tunnel) => {
            let words = match &tunnel.format {
                Format::Ipip(number) => number.map_or(String::new(), |n| format!(" proto={n}")),
                Format::Gre(gre) => gre_words(gre),
                Format::Gue(gue) => gue_words(gue),
            };
            words + &tunnelled(&tunnel.content, scope)
        }
        Payload::Icmp(icmp) => icmp_words(ip, icmp) + &quote(&icmp.content, scope),
        // Only in a frame is there a notation for it.
        Payload::Neighbour(_) => String::new(),
        Payload::Other(protocol, data) => format!(" proto={protocol}{}", data_attribute(data)),
    };
    format!("{from} > {to}{}{rest}", header(ip, 64))
}

fn header(ip: &Ip, usual_ttl: u8) -> String {
    let mut text = String::new();
    if ip.ttl != usual_ttl {
        let _ = write!(text, " ttl={}", ip.ttl);
    }
    if ip.tos != 0 {
        let _ = write!(text, " tos={:02x}", ip.tos);
    }
    if let Header::V6 { flow, extensions } = &ip.header {
        if *flow != 0 {
            let _ = write!(text, " flow={flow}");
        }
        let shown = match extensions.as_slice() {
            [others @ .., Extension::Fragment] => others,
            all => all,
        };
        if !shown.is_empty() {
            let _ = write!(text, " ext={}", show_extensions(shown));
        }
    }
    if ip.id != 0 {
        let _ = write!(text, " id={}", ip.id);
    }
    if ip.mf {
        text += " mf";
    }
    let is_atomic = match &ip.header {
        Header::V4 { .. } => false,
        Header::V6 { extensions, .. } => extensions.contains(&Extension::Fragment) && !ip.mf,
    };
    if ip.offset > 0 || is_atomic {
        let _ = write!(text, " frag={}", ip.offset);
    }
    if let Header::V4 { df, options } = &ip.header {
        if !df && !ip.mf && ip.offset == 0 {
            text += " nodf";
        }
        if !options.is_empty() {
            let _ = write!(text, " ipopts={}", to_hex(options));
        }
    }
    if let Some(length) = ip.wrong.length {
        let _ = write!(text, " iplen={length}");
    }
    text
}

fn tcp_words(ip: &Ip, tcp: &Tcp, names: &Names) -> String {
    let mut text = String::new();
    for (name, bit) in FLAGS {
        if tcp.flags & bit != 0 {
            let _ = write!(text, " {name}");
        }
    }
    for (key, value) in [("seq", tcp.seq), ("ack", tcp.ack), ("urg", tcp.urgent.into())] {
        if value != 0 {
            let _ = write!(text, " {key}={value}");
        }
    }
    if tcp.window != WINDOW {
        let _ = write!(text, " win={}", tcp.window);
    }
    if !tcp.options.is_empty() {
        let _ = write!(text, " opts={}", options(ip, tcp, names));
    }
    text + &data_attribute(&tcp.data)
}

/// A segment's options.
pub(super) fn options(ip: &Ip, tcp: &Tcp, names: &Names) -> String {
    let ports = (tcp.source, tcp.destination);
    let signed = Signed { ends: ip.ends(), ports, seq: tcp.seq };
    options::show(&tcp.option_area(ip.ends()), names, signed)
}

fn sum(udp: &Udp) -> &'static str {
    match udp.sum {
        Sum::Usual => "",
        Sum::Right => " udpsum",
        Sum::Wrong => " badudp",
        Sum::Zero => " nosum",
    }
}

fn gre_words(gre: &Gre) -> String {
    let mut text = " gre".to_owned();
    if gre.flags != 0 {
        let _ = write!(text, " greflags={:04x}", gre.flags);
    }
    if let Some(protocol) = gre.protocol {
        let _ = write!(text, " greproto={protocol:04x}");
    }
    if !gre.options.is_empty() {
        let _ = write!(text, " greopts={}", to_hex(&gre.options));
    }
    text
}

fn gue_words(gue: &Gue) -> String {
    let mut text = " gue".to_owned();
    if gue.udp.source != GUE_SOURCE {
        let _ = write!(text, " sport={}", gue.udp.source);
    }
    if gue.udp.destination != GUE_PORT {
        let _ = write!(text, " dport={}", gue.udp.destination);
    }
    text += sum(&gue.udp);
    if gue.version != 0 {
        let _ = write!(text, " guever={}", gue.version);
    }
    if gue.control {
        text += " guectl";
    }
    if let Some(protocol) = gue.protocol {
        let _ = write!(text, " gueproto={protocol}");
    }
    if gue.flags != 0 {
        let _ = write!(text, " gueflags={:04x}", gue.flags);
    }
    if !gue.options.is_empty() {
        let _ = write!(text, " gueopts={}", to_hex(&gue.options));
    }
    text
}

fn icmp_words(ip: &Ip, icmp: &Icmp) -> String {
    let is_usual = ip.header_is_v6() == (icmp.protocol == icmp::V6);
    let [request, reply] = Icmp::echo(icmp.protocol);
    let echo = [(request, "echo"), (reply, "echoreply")];
    let echo = echo.into_iter().find(|(kind, _)| is_usual && (icmp.kind, icmp.code) == (*kind, 0));
    if let Some((_, name)) = echo {
        return format!(" {name}={}/{}", icmp.word >> 16, icmp.word & 0xffff);
    }
    let name = if icmp.protocol == icmp::V6 { "icmp6" } else { "icmp" };
    let text = format!(" {name}={}/{}", icmp.kind, icmp.code);
    if icmp.word == 0 { text } else { format!("{text} word={}", icmp.word) }
}

/// What is quoted: attributes first.
fn quote(content: &Content, scope: Scope<'_>) -> String {
    let mut text = data_attribute(&content.data);
    if let Some(cut) = content.cut {
        let _ = write!(text, " quote={cut}");
    }
    text + &brackets(content, scope)
}

/// What is in a tunnel: attributes last, for in front of the brackets a tunnel of IP in IP is
/// none yet.
fn tunnelled(content: &Content, scope: Scope<'_>) -> String {
    let mut text = brackets(content, scope);
    if let Some(cut) = content.cut {
        let _ = write!(text, " short={cut}");
    }
    text + &data_attribute(&content.data)
}

fn brackets(content: &Content, scope: Scope<'_>) -> String {
    content.packet.as_ref().map_or(String::new(), |within| {
        let short = change::of_packet(within, content.cut, scope);
        format!(" [ {} ]", short.unwrap_or_else(|| packet(within, scope)))
    })
}

fn data_attribute(data: &[u8]) -> String {
    match data.len() {
        0 => String::new(),
        length if data == pattern(length) => format!(" data={length}"),
        _ => format!(" data=x{}", to_hex(data)),
    }
}
