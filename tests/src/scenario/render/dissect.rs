//! Bytes to the fields of a frame. Checksums are not looked at: whoever asks compares what is
//! built of the fields with the bytes.

use std::net::{IpAddr, Ipv4Addr};

use firstack_packets::icmp::{self, Icmp, Neighbour};
use firstack_packets::ip::{AUTHENTICATION, FRAGMENT};
use firstack_packets::tunnel::{GUE_PORT, usual_sum};
use firstack_packets::{
    Arp, Body, Content, Extension, Format, Frame, Gre, Gue, Header, Ip, PADDING, Payload, Sum, Tcp,
    Tunnel, Udp, Wrong,
};

use super::{complete, differences};

/// The fields of a frame; `None` when it is not whole.
pub(super) fn frame(bytes: &[u8]) -> Option<Frame> {
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
        0x0800 | 0x86dd => {
            let (mut ip, used) = packet(rest, false)?;
            if ip.header_is_v6() != (kind == 0x86dd) {
                return None;
            }
            if let Some(neighbour) = neighbour(&ip) {
                ip.payload = Payload::Neighbour(neighbour);
            }
            (Body::Ip(ip), used)
        }
        0x0806 if rest.len() >= 28 => {
            let station = |at: usize| {
                let address: [u8; 4] = rest[at + 6..at + 10].try_into().ok()?;
                Some((rest[at..at + 6].try_into().ok()?, Ipv4Addr::from(address)))
            };
            let arp = Arp { operation: word(rest, 6)?, sender: station(8)?, target: station(18)? };
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

/// A packet and its length. One that is cut off is none, or has just a wrong length.
fn packet(bytes: &[u8], may_be_cut: bool) -> Option<(Ip, usize)> {
    let mut ip = header(bytes)?;
    let (mut ends, total) = (Payload::Other(0, Vec::new()), total(bytes)?);
    std::mem::swap(&mut ends, &mut ip.payload);
    let Payload::Other(protocol, start) = ends else { return None };
    let start = bytes.len() - start.len();
    if total < start || total > bytes.len() && !may_be_cut {
        return None;
    }
    let data = &bytes[start..total.min(bytes.len())];
    let is_fragment = ip.mf || ip.offset > 0;
    ip.payload = if is_fragment || total > bytes.len() {
        Payload::Other(protocol, data.to_vec())
    } else {
        payload(protocol, data, ip.ends())
    };
    if total > bytes.len() {
        ip.wrong.length = word(bytes, if ip.header_is_v6() { 4 } else { 2 });
    }
    Some((ip, total.min(bytes.len())))
}

/// How long the packet says it is.
pub(super) fn total(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? >> 4 {
        4 => Some(word(bytes, 2)?.into()),
        6 => Some(40 + usize::from(word(bytes, 4)?)),
        _ => None,
    }
}

/// The header; its payload is all that stands behind it.
pub(super) fn header(bytes: &[u8]) -> Option<Ip> {
    match bytes.first()? >> 4 {
        4 => header_v4(bytes),
        6 => header_v6(bytes),
        _ => None,
    }
}

fn header_v4(bytes: &[u8]) -> Option<Ip> {
    let length = usize::from(bytes[0] & 0xf) * 4;
    if length < 20 || length > bytes.len() {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).ok()?));
    let flags = word(bytes, 6)?;
    let payload = Payload::Other(bytes[9], bytes[length..].to_vec());
    Some(Ip {
        tos: bytes[1],
        id: word(bytes, 4)?.into(),
        mf: flags & 0x2000 != 0,
        offset: (flags & 0x1fff) * 8,
        ttl: bytes[8],
        header: Header::V4 { df: flags & 0x4000 != 0, options: bytes[20..length].to_vec() },
        ..Ip::new(address(12)?, address(16)?, payload)
    })
}

fn header_v6(bytes: &[u8]) -> Option<Ip> {
    if bytes.len() < 40 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).ok()?));
    let first = double(bytes, 0)?;
    let ends = (address(8)?, address(24)?);
    let mut ip = Ip::new(ends.0, ends.1, Payload::Other(0, Vec::new()));
    (ip.tos, ip.ttl) = ((first >> 20) as u8, bytes[7]);
    let (mut kind, mut at, mut extensions) = (bytes[6], 40, Vec::new());
    // Behind the header of a later fragment stands data.
    while ip.offset == 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = match (kind, rest.get(1)) {
            (FRAGMENT, _) => 8,
            (AUTHENTICATION, Some(&units)) => (usize::from(units) + 2) * 4,
            (0 | 43 | 60 | 135 | 139 | 140, Some(&units)) => (usize::from(units) + 1) * 8,
            _ => break,
        };
        let Some(extension) = rest.get(..length) else { break };
        let is_first = !extensions.contains(&Extension::Fragment);
        if kind == FRAGMENT && is_first && extension[1] == 0 && extension[3] & 6 == 0 {
            let flags = word(extension, 2)?;
            (ip.offset, ip.mf, ip.id) = (flags & !7, flags & 1 != 0, double(extension, 4)?);
            extensions.push(Extension::Fragment);
        } else {
            extensions.push(Extension::Other(kind, extension[1..].to_vec()));
        }
        (kind, at) = (extension[0], at + length);
    }
    ip.header = Header::V6 { flow: first & 0xf_ffff, extensions };
    ip.payload = Payload::Other(kind, bytes[at..].to_vec());
    Some(ip)
}

fn payload(protocol: u8, data: &[u8], ends: (IpAddr, IpAddr)) -> Payload {
    let known = match protocol {
        6 => tcp(data).map(Payload::Tcp),
        17 => udp(data, ends),
        47 => gre(data),
        4 | 41 => {
            let content = content(data);
            let number = (content.protocol() != protocol).then_some(protocol);
            let tunnel = Tunnel { format: Format::Ipip(number), content };
            tunnel.content.packet.is_some().then_some(Payload::Tunnel(tunnel))
        }
        icmp::V4 | icmp::V6 => message(protocol, data),
        _ => None,
    };
    known.unwrap_or_else(|| Payload::Other(protocol, data.to_vec()))
}

fn tcp(bytes: &[u8]) -> Option<Tcp> {
    let header = usize::from(*bytes.get(12)? >> 4) * 4;
    if header < 20 || header > bytes.len() {
        return None;
    }
    Some(Tcp {
        source: word(bytes, 0)?,
        destination: word(bytes, 2)?,
        seq: double(bytes, 4)?,
        ack: double(bytes, 8)?,
        flags: bytes[13],
        window: word(bytes, 14)?,
        urgent: word(bytes, 18)?,
        options: bytes[20..header].to_vec(),
        data: bytes[header..].to_vec(),
        ..Tcp::default()
    })
}

/// UDP, or the tunnel over it.
fn udp(bytes: &[u8], ends: (IpAddr, IpAddr)) -> Option<Payload> {
    let data = bytes.get(8..)?;
    let sum = |usual: Sum| match (word(bytes, 6)?, usual) {
        (0, Sum::Zero) => Some(Sum::Usual),
        (0, _) => Some(Sum::Zero),
        (_, Sum::Zero) => Some(Sum::Right),
        _ => Some(Sum::Usual),
    };
    let [source, destination] = [word(bytes, 0)?, word(bytes, 2)?];
    let udp = Udp { source, destination, ..Udp::default() };
    if destination == GUE_PORT
        && let Some((gue, content)) = gue(data)
    {
        let udp = Udp { sum: sum(usual_sum(ends.0))?, ..udp };
        let format = Format::Gue(Gue { udp, ..gue });
        return Some(Payload::Tunnel(Tunnel { format, content }));
    }
    Some(Payload::Udp(Udp { sum: sum(Sum::Right)?, data: data.to_vec(), ..udp }))
}

fn gue(data: &[u8]) -> Option<(Gue, Content)> {
    let (first, protocol) = (*data.first()?, *data.get(1)?);
    let start = 4 + usize::from(first & 0x1f) * 4;
    let options = data.get(4..start)?.to_vec();
    // Variant 1 is an IP packet without a header of GUE in front.
    if first >> 6 == 1 {
        return None;
    }
    let content = content(&data[start..]);
    let protocol = (content.protocol() != protocol).then_some(protocol);
    let (version, control) = (first >> 6, first & 0x20 != 0);
    let flags = word(data, 2)?;
    Some((Gue { version, control, protocol, flags, options, ..Gue::default() }, content))
}

fn gre(data: &[u8]) -> Option<Payload> {
    let [flags, kind] = [word(data, 0)?, word(data, 2)?];
    // Checksum, key, sequence number.
    let words = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    let options = data.get(4..4 + words * 4)?.to_vec();
    let content = content(&data[4 + words * 4..]);
    let usual = if content.protocol() == 41 { 0x86dd } else { 0x0800 };
    let gre = Gre { flags, protocol: (kind != usual).then_some(kind), options };
    Some(Payload::Tunnel(Tunnel { format: Format::Gre(gre), content }))
}

fn message(protocol: u8, data: &[u8]) -> Option<Payload> {
    let (kind, code) = (*data.first()?, *data.get(1)?);
    let word = double(data, 4)?;
    let rest = &data[8..];
    let content = if Icmp::is_error(protocol, kind) {
        content(rest)
    } else {
        Content { data: rest.to_vec(), ..Content::default() }
    };
    Some(Payload::Icmp(Icmp { protocol, kind, code, word, content, bad_checksum: false }))
}

/// A packet that may be cut off, or anything.
fn content(bytes: &[u8]) -> Content {
    let of = |ip: Ip, cut, data: &[u8]| {
        let content = Content { packet: Some(Box::new(ip)), cut, data: data.to_vec() };
        // What is not what it seems is better seen as it is.
        differences(bytes, &content.bytes()).map(|_| content)
    };
    let whole = || packet(bytes, false).and_then(|(ip, used)| of(ip, None, &bytes[used..]));
    let completed = || {
        let (ip, _) = packet(&complete::packet(bytes)?, false)?;
        of(ip, Some(bytes.len()), &[])
    };
    let cut = || packet(bytes, true).and_then(|(ip, used)| of(ip, None, &bytes[used..]));
    let none = || Content { data: bytes.to_vec(), ..Content::default() };
    whole().or_else(completed).or_else(cut).unwrap_or_else(none)
}

/// The solicitation or advertisement that a message is.
fn neighbour(ip: &Ip) -> Option<Neighbour> {
    let Payload::Icmp(Icmp { protocol: icmp::V6, kind, code: 0, word, content, .. }) = &ip.payload
    else {
        return None;
    };
    let option = match kind {
        135 => 1,
        136 => 2,
        _ => return None,
    };
    let target: [u8; 16] = content.data.get(..16)?.try_into().ok()?;
    let mac = match &content.data[16..] {
        [] => None,
        [kind, 1, mac @ ..] if *kind == option => Some(mac.try_into().ok()?),
        _ => return None,
    };
    let (solicits, flags) = (*kind == 135, (word >> 24) as u8);
    let is_plain = ip.header_is_v6() && word & 0x1fff_ffff == 0 && ip.wrong == Wrong::default();
    let neighbour = Neighbour { solicits, flags, target: target.into(), mac, bad_checksum: false };
    is_plain.then_some(neighbour)
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
