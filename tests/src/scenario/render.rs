//! Bytes back to the notation: for messages about what differs, and to write expectations anew.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::names::Names;
use super::notation::{Scope, WINDOW, parse, pattern};
use super::packet::{Arp, Body, FLAGS, Frame, Ip, PADDING, Payload, Tcp};
use super::{options, to_hex};

/// The most bytes that are shown as patches; beyond that a frame is shown byte by byte.
const PATCHES: usize = 8;

/// The notation for a frame, to be read in the same scope.
pub fn show(bytes: &[u8], scope: Scope<'_>) -> String {
    let raw = || format!("raw {}", to_hex(bytes));
    let Some(frame) = dissect(bytes) else { return raw() };
    let mut frame = frame;
    let rebuilt = frame.bytes();
    let differing: Vec<_> = (0..bytes.len().min(rebuilt.len()))
        .filter(|&at| bytes[at] != rebuilt[at])
        .map(|at| (at, vec![bytes[at]]))
        .collect();
    if rebuilt.len() != bytes.len() || differing.len() > PATCHES {
        return raw();
    }
    frame.patches = differing;
    let short = scope.input.and_then(|input| as_change(&frame, input, scope));
    let text = short.unwrap_or_else(|| line(&frame, scope));
    match parse(&text, scope) {
        Ok(again) if again.bytes() == bytes => text,
        _ => raw(),
    }
}

/// `same` or `inner` with what is different, when little is.
fn as_change(frame: &Frame, input: &Frame, scope: Scope<'_>) -> Option<String> {
    if frame.bytes() == input.bytes() {
        return Some("same".to_owned());
    }
    let within = match &input.body {
        Body::Ip(Ip { payload: Payload::Ip(inner), .. }) => {
            Some(Frame { body: Body::Ip((**inner).clone()), padding: 0, ..input.clone() })
        }
        _ => None,
    };
    let candidates = [Some(("same", input.clone())), within.map(|inner| ("inner", inner))];
    candidates.into_iter().flatten().find_map(|(word, base)| {
        let text = format!("{word}{}", changes(frame, &base, scope.names)?);
        (parse(&text, scope).ok()?.bytes() == frame.bytes()).then_some(text)
    })
}

fn changes(frame: &Frame, base: &Frame, names: &Names) -> Option<String> {
    let mut text = String::new();
    for (key, new, old) in [("to", frame.to, base.to), ("from", frame.from, base.from)] {
        if new != old {
            let _ = write!(text, " {key}={}", names.show_mac(new));
        }
    }
    if frame.padding != base.padding {
        let _ = write!(text, " pad={}", frame.padding);
    }
    let (Body::Ip(ip), Body::Ip(old_ip)) = (&frame.body, &base.body) else { return None };
    let (Payload::Tcp(tcp), Payload::Tcp(old)) = (&ip.payload, &old_ip.payload) else {
        return None;
    };
    let ends = [
        ("src", (ip.source, tcp.source), (old_ip.source, old.source)),
        ("dst", (ip.destination, tcp.destination), (old_ip.destination, old.destination)),
    ];
    for (key, new, old) in ends {
        if new != old {
            let _ = write!(text, " {key}={}", names.show(new));
        }
    }
    if tcp.options != old.options {
        let shown = options::show(&tcp.options);
        let _ = write!(text, " opts={}", if shown.is_empty() { "none" } else { &shown });
    }
    if ip.tos != old_ip.tos {
        let _ = write!(text, " tos={:02x}", ip.tos);
    }
    Some(text)
}

fn line(frame: &Frame, scope: Scope<'_>) -> String {
    let names = scope.names;
    let mut text = match &frame.body {
        Body::Ip(ip) => ip_line(ip, names),
        Body::Arp(arp) => arp_line(arp, names),
        Body::Other(kind, data) => format!("ether={kind:04x} data=x{}", to_hex(data)),
        Body::Raw(bytes) => format!("raw {}", to_hex(bytes)),
    };
    let usual = (names.mac(scope.macs.0).ok(), names.mac(scope.macs.1).ok());
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
    let party = |(mac, address)| format!("{}/{}", names.show_mac(mac), names.show_address(address));
    let operation = match arp.operation {
        1 => "request".to_owned(),
        2 => "reply".to_owned(),
        other => other.to_string(),
    };
    format!("arp {operation} {} > {}", party(arp.sender), party(arp.target))
}

fn ip_line(ip: &Ip, names: &Names) -> String {
    let (from, to) = match &ip.payload {
        Payload::Tcp(Tcp { source, destination, .. }) | Payload::Udp(source, destination, _) => {
            (names.show((ip.source, *source)), names.show((ip.destination, *destination)))
        }
        _ => (names.show_address(ip.source), names.show_address(ip.destination)),
    };
    let mut text = format!("{from} > {to}");
    let rest = match &ip.payload {
        Payload::Tcp(tcp) => tcp_line(tcp),
        Payload::Ip(inner) => format!(" [ {} ]", ip_line(inner, names)),
        Payload::Udp(_, _, data) => format!(" udp{}", data_attribute(data)),
        Payload::Icmp(kind, code, word, quoted, cut) => {
            let mut text = format!(" icmp={kind}/{code} word={word}");
            if let Some(cut) = cut {
                let _ = write!(text, " quote={cut}");
            }
            if let Some(quoted) = quoted {
                let _ = write!(text, " [ {} ]", ip_line(quoted, names));
            }
            text
        }
        Payload::Other(protocol, data) => format!(" proto={protocol}{}", data_attribute(data)),
    };
    text += &rest_of_header(ip);
    text += &rest;
    text
}

fn rest_of_header(ip: &Ip) -> String {
    let mut text = String::new();
    if ip.ttl != 64 {
        let _ = write!(text, " ttl={}", ip.ttl);
    }
    if ip.tos != 0 {
        let _ = write!(text, " tos={:02x}", ip.tos);
    }
    if ip.id != 0 {
        let _ = write!(text, " id={}", ip.id);
    }
    if ip.mf {
        text += " mf";
    }
    if ip.offset > 0 {
        let _ = write!(text, " frag={}", ip.offset);
    }
    if !ip.df && !ip.mf && ip.offset == 0 {
        text += " nodf";
    }
    if !ip.options.is_empty() {
        let _ = write!(text, " ipopts={}", to_hex(&ip.options));
    }
    text
}

fn tcp_line(tcp: &Tcp) -> String {
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
        let _ = write!(text, " opts={}", options::show(&tcp.options));
    }
    text + &data_attribute(&tcp.data)
}

fn data_attribute(data: &[u8]) -> String {
    match data.len() {
        0 => String::new(),
        length if data == pattern(length) => format!(" data={length}"),
        _ => format!(" data=x{}", to_hex(data)),
    }
}

/// The fields of a frame; `None` when it is not whole. Checksums are not looked at.
fn dissect(bytes: &[u8]) -> Option<Frame> {
    let mut at = 12;
    let mut vlans = Vec::new();
    let mut kind = word(bytes, at)?;
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
        vlans.push((kind, word(bytes, at + 2)?));
        at += 4;
        kind = word(bytes, at)?;
    }
    let rest = &bytes[at + 2..];
    let (body, used) = match kind {
        0x0800 => {
            let (ip, used) = dissect_ip(rest)?;
            (Body::Ip(ip), used)
        }
        0x0806 if rest.len() >= 28 => {
            let party =
                |at: usize| Some((rest[at..at + 6].try_into().ok()?, address(rest, at + 6)?));
            let arp = Arp { operation: word(rest, 6)?, sender: party(8)?, target: party(18)? };
            (Body::Arp(arp), 28)
        }
        _ => (Body::Other(kind, rest.to_vec()), rest.len()),
    };
    let padding = &rest[used..];
    padding.iter().all(|&byte| byte == PADDING).then_some(())?;
    Some(Frame {
        to: bytes[..6].try_into().ok()?,
        from: bytes[6..12].try_into().ok()?,
        vlans,
        body,
        padding: padding.len(),
        cut: None,
        patches: Vec::new(),
    })
}

fn dissect_ip(bytes: &[u8]) -> Option<(Ip, usize)> {
    let header = usize::from(bytes.first()? & 0xf) * 4;
    let total = usize::from(word(bytes, 2)?);
    if bytes[0] >> 4 != 4 || header < 20 || total < header || total > bytes.len() {
        return None;
    }
    let data = &bytes[header..total];
    let flags = word(bytes, 6)?;
    let is_fragment = flags & 0x3fff != 0;
    let payload = match bytes[9] {
        6 if !is_fragment => Payload::Tcp(dissect_tcp(data)?),
        4 if !is_fragment => Payload::Ip(Box::new(dissect_ip(data)?.0)),
        17 if !is_fragment && data.len() >= 8 => {
            Payload::Udp(word(data, 0)?, word(data, 2)?, data[8..].to_vec())
        }
        1 if !is_fragment && data.len() >= 8 => {
            let second = u32::from(word(data, 4)?) << 16 | u32::from(word(data, 6)?);
            let quoted =
                if data.len() > 8 { Some(Box::new(dissect_ip(&data[8..])?.0)) } else { None };
            Payload::Icmp(data[0], data[1], second, quoted, None)
        }
        protocol => Payload::Other(protocol, data.to_vec()),
    };
    let ip = Ip {
        tos: bytes[1],
        id: word(bytes, 4)?,
        df: flags & 0x4000 != 0,
        mf: flags & 0x2000 != 0,
        offset: (flags & 0x1fff) * 8,
        ttl: bytes[8],
        options: bytes[20..header].to_vec(),
        ..Ip::new(address(bytes, 12)?, address(bytes, 16)?, payload)
    };
    Some((ip, total))
}

fn dissect_tcp(bytes: &[u8]) -> Option<Tcp> {
    let header = usize::from(*bytes.get(12)? >> 4) * 4;
    if header < 20 || header > bytes.len() {
        return None;
    }
    let double =
        |at: usize| Some(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?));
    Some(Tcp {
        source: word(bytes, 0)?,
        destination: word(bytes, 2)?,
        seq: double(4)?,
        ack: double(8)?,
        flags: bytes[13],
        window: word(bytes, 14)?,
        urgent: word(bytes, 18)?,
        options: bytes[20..header].to_vec(),
        data: bytes[header..].to_vec(),
        ..Tcp::default()
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let names = Names::parse(
            "C 10.0.0.1:4\nV 10.0.0.2:80\nR 10.0.0.3:80\na 02:00:00:00:00:01\nb 02:00:00:00:00:02",
        )
        .unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        for text in [
            "C > V SYN seq=1000 opts=linux,tag vlan=88a8:5,8100:6",
            "V > R ttl=3 tos=b8 [ C > V SYN ACK seq=7 ack=9 win=0 data=x0102 ] pad=4",
            "C > V id=7 mf proto=6 data=16",
            "C:9 > V udp data=3",
            "V > C icmp=3/4 word=1400 [ C > R ACK seq=5 data=8 ]",
            "arp request a/10.0.0.1 > 00:00:00:00:00:00/V from=a",
            "ether=88cc data=x0102",
        ] {
            let bytes = parse(text, scope).unwrap().bytes();
            let shown = show(&bytes, scope);
            assert_eq!(parse(&shown, scope).unwrap().bytes(), bytes, "{text}: {shown}");
            assert!(!shown.starts_with("raw"), "{text}: {shown}");
        }
        let bytes = parse("C > V ACK badtcp", scope).unwrap().bytes();
        assert!(show(&bytes, scope).contains("patch="), "{}", show(&bytes, scope));
        let input = parse("C > V SYN opts=linux pad=6", scope).unwrap();
        let scope = Scope { input: Some(&input), ..scope };
        for text in ["same", "same pad=0 opts=linux,tag", "same dst=R"] {
            assert_eq!(show(&parse(text, scope).unwrap().bytes(), scope), text);
        }
    }
}
