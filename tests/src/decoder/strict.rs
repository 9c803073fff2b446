//! `etherparse` over one frame, tunnels included. It knows neither GRE nor GUE, whose headers
//! are read here.

use std::net::IpAddr;

use etherparse::{
    EtherType, Icmpv4Slice, Icmpv6Slice, IpNumber, IpSlice, Ipv4Header, Ipv6Header, SlicedPacket,
    TcpOptionReadError, TcpOptionsIterator, TcpSlice, UdpSlice,
};

/// The UDP port of GUE.
const GUE: u16 = 6080;

/// Whether lengths and checksums are right, from the Ethernet header to the innermost segment.
pub fn check(frame: &[u8]) -> Result<(), String> {
    walk(frame, &mut Vec::new())
}

/// What is in a frame's GUE tunnels, as frames of their own.
pub(super) fn gue_contents(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    // Whatever is wrong further in, they were found.
    let _ = walk(frame, &mut found);
    found
}

fn walk(frame: &[u8], found: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(payload) = packet.ether_payload() else { return Ok(()) };
    match payload.ether_type {
        EtherType::IPV4 => ip(payload.payload, 4, found),
        EtherType::IPV6 => ip(payload.payload, 6, found),
        _ => Ok(()),
    }
}

fn ip(bytes: &[u8], version: u8, found: &mut Vec<Vec<u8>>) -> Result<(), String> {
    if bytes.first().is_none_or(|byte| byte >> 4 != version) {
        return Err(format!("not of IPv{version}, as was said in front of it"));
    }
    let ip = IpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
    if let Some(ip) = ip.ipv4() {
        header_checksum(&ip.header().to_header())?;
    }
    let payload = ip.payload();
    if payload.fragmented {
        return Ok(());
    }
    let ends = (ip.source_addr(), ip.destination_addr());
    let inner = |result: Result<(), String>| result.map_err(|error| format!("inner: {error}"));
    match payload.ip_number {
        IpNumber::TCP => tcp(payload.payload, ends),
        IpNumber::UDP => inner(udp(payload.payload, ends, found)),
        IpNumber::IPV4 => inner(self::ip(payload.payload, 4, found)),
        IpNumber::IPV6 => inner(self::ip(payload.payload, 6, found)),
        IpNumber::GRE => inner(gre(payload.payload, found)),
        IpNumber::ICMP => icmp(payload.payload),
        IpNumber::IPV6_ICMP => icmp6(payload.payload, ends),
        _ => Ok(()),
    }
}

fn header_checksum(header: &Ipv4Header) -> Result<(), String> {
    if header.calc_header_checksum() == header.header_checksum {
        Ok(())
    } else {
        Err("wrong IP checksum".to_owned())
    }
}

fn tcp(bytes: &[u8], ends: (IpAddr, IpAddr)) -> Result<(), String> {
    let tcp = TcpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
    options(tcp.options())?;
    let sum = match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            tcp.calc_checksum_ipv4(from.octets(), to.octets()).map_err(|e| e.to_string())?
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            tcp.calc_checksum_ipv6(from.octets(), to.octets()).map_err(|e| e.to_string())?
        }
        _ => return Err("addresses of two families".to_owned()),
    };
    if sum == tcp.checksum() { Ok(()) } else { Err("wrong TCP checksum".to_owned()) }
}

fn udp(bytes: &[u8], ends: (IpAddr, IpAddr), found: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let udp = UdpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
    let (header, data) = (udp.to_header(), udp.payload());
    let sum = match ends {
        // RFC 768: there need not be one.
        (IpAddr::V4(_), _) if udp.checksum() == 0 => Ok(0),
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), data)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), data)
        }
        _ => return Err("addresses of two families".to_owned()),
    };
    if sum.map_err(|error| error.to_string())? != udp.checksum() {
        return Err("wrong UDP checksum".to_owned());
    }
    if udp.destination_port() == GUE { gue(data, found) } else { Ok(()) }
}

/// Variant 0, no control message, no flags, no options.
fn gue(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let (version, kind) = match bytes {
        [0, 4, 0, 0, ..] => (4, EtherType::IPV4),
        [0, 41, 0, 0, ..] => (6, EtherType::IPV6),
        _ => return Err("not the header of GUE that is to be sent".to_owned()),
    };
    let inner = &bytes[4..];
    let mut frame = vec![2; 12];
    frame.extend(kind.0.to_be_bytes());
    frame.extend(inner);
    found.push(frame);
    ip(inner, version, found)
}

/// No flags, version 0.
fn gre(bytes: &[u8], found: &mut Vec<Vec<u8>>) -> Result<(), String> {
    match bytes {
        [0, 0, 0x08, 0x00, inner @ ..] => ip(inner, 4, found),
        [0, 0, 0x86, 0xdd, inner @ ..] => ip(inner, 6, found),
        _ => Err("not the header of GRE that is to be sent".to_owned()),
    }
}

fn icmp(bytes: &[u8]) -> Result<(), String> {
    let icmp = Icmpv4Slice::from_slice(bytes).map_err(|error| error.to_string())?;
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(bytes).ones_complement();
    if sum != 0 {
        return Err("wrong ICMP checksum".to_owned());
    }
    match icmp.type_u8() {
        3 | 4 | 5 | 11 | 12 => quote(icmp.payload()),
        _ => Ok(()),
    }
}

fn icmp6(bytes: &[u8], ends: (IpAddr, IpAddr)) -> Result<(), String> {
    let icmp = Icmpv6Slice::from_slice(bytes).map_err(|error| error.to_string())?;
    let (IpAddr::V6(from), IpAddr::V6(to)) = ends else {
        return Err("ICMPv6 over IPv4".to_owned());
    };
    if !icmp.is_checksum_valid(from.octets(), to.octets()) {
        return Err("wrong ICMPv6 checksum".to_owned());
    }
    if icmp.type_u8() < 128 { quote(icmp.payload()) } else { Ok(()) }
}

/// The header of a packet that may be cut off behind it.
fn quote(bytes: &[u8]) -> Result<(), String> {
    let header = match bytes.first().map(|byte| byte >> 4) {
        Some(6) => Ipv6Header::from_slice(bytes).map(drop).map_err(|error| error.to_string()),
        _ => match Ipv4Header::from_slice(bytes) {
            Ok((header, _)) => header_checksum(&header),
            Err(error) => Err(error.to_string()),
        },
    };
    header.map_err(|error| format!("quoted: {error}"))
}

/// Those that etherparse does not know are stepped over by their length.
fn options(mut area: &[u8]) -> Result<(), String> {
    loop {
        let mut options = TcpOptionsIterator::from_slice(area);
        match options.by_ref().find_map(Result::err) {
            None => return Ok(()),
            Some(TcpOptionReadError::UnknownId(_)) => {}
            Some(error) => return Err(error.to_string()),
        }
        // After an error the iterator is at its end: look for the unknown option anew.
        let at = unknown(area).ok_or("an option without a length")?;
        let length = usize::from(*area.get(at + 1).ok_or("an option without a length")?);
        if length < 2 {
            return Err(format!("an option of length {length}"));
        }
        area = area.get(at + length..).ok_or("an option that runs past the area")?;
    }
}

/// Where the first option is that etherparse does not know.
fn unknown(area: &[u8]) -> Option<usize> {
    let mut options = TcpOptionsIterator::from_slice(area);
    loop {
        let at = area.len() - options.rest().len();
        if options.next()?.is_err() {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ETHERPARSE_ONLY, SOUND, WRONG, frames};
    use super::*;

    #[test]
    fn takes_sound_frames_and_no_others() {
        for (text, frame) in SOUND.iter().zip(frames(SOUND)) {
            assert_eq!(check(&frame), Ok(()), "{text}");
        }
        let wrong = [WRONG, ETHERPARSE_ONLY].concat();
        for (text, frame) in wrong.iter().zip(frames(&wrong)) {
            assert!(check(&frame).is_err(), "{text}");
        }
    }
}
