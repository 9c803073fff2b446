//! What IP packets carry.

use firstack_packets::icmp::{self, NEIGHBOUR_FLAGS};
use firstack_packets::tunnel::{GUE_PORT, GUE_SOURCE};
use firstack_packets::{
    Content, FLAGS, Format, Gre, Gue, Icmp, Neighbour, Payload, Sum, Tcp, Tunnel, Udp,
};

use super::{data_bytes, hex16, number, v6};
use crate::scenario::names::Names;
use crate::scenario::{hex, options};

/// Makes the payload another one, if the word says so.
pub(super) fn choose(
    payload: &mut Payload,
    key: &str,
    value: &str,
    over_v6: bool,
) -> Result<bool, String> {
    let tunnel = |format| Payload::Tunnel(Tunnel { format, content: Content::default() });
    let ports = payload.ports().unwrap_or_default();
    *payload = match key {
        "udp" => Payload::Udp(Udp { source: ports.0, destination: ports.1, ..Udp::default() }),
        "gre" => tunnel(Format::Gre(Gre::default())),
        "gue" => {
            let udp = Udp { source: GUE_SOURCE, destination: GUE_PORT, ..Udp::default() };
            tunnel(Format::Gue(Gue { udp, ..Gue::default() }))
        }
        "proto" => Payload::Other(number(value)?, Vec::new()),
        "icmp" | "icmp6" => {
            let (kind, code) = value.split_once('/').ok_or(format!("{value}: no code"))?;
            let protocol = if key == "icmp" { icmp::V4 } else { icmp::V6 };
            message(protocol, number(kind)?, number(code)?, 0)
        }
        "echo" | "echoreply" => {
            let (id, number_) = value.split_once('/').ok_or(format!("{value}: no number"))?;
            let word = u32::from(number::<u16>(id)?) << 16 | u32::from(number::<u16>(number_)?);
            let protocol = if over_v6 { icmp::V6 } else { icmp::V4 };
            let [request, reply] = Icmp::echo(protocol);
            message(protocol, if key == "echo" { request } else { reply }, 0, word)
        }
        _ => return Ok(false),
    };
    Ok(true)
}

fn message(protocol: u8, kind: u8, code: u8, word: u32) -> Payload {
    let content = Content::default();
    Payload::Icmp(Icmp { protocol, kind, code, word, content, bad_checksum: false })
}

/// Sets a field of it.
pub(super) fn set(
    payload: &mut Payload,
    key: &str,
    value: &str,
    names: &Names,
) -> Result<bool, String> {
    match payload {
        Payload::Tcp(tcp) => set_tcp(tcp, key, value, names),
        Payload::Udp(udp) => set_udp(udp, key, value),
        Payload::Tunnel(tunnel) => set_tunnel(tunnel, key, value),
        Payload::Icmp(icmp) => {
            match key {
                "word" => icmp.word = number(value)?,
                "quote" => icmp.content.cut = Some(number(value)?),
                "data" => icmp.content.data = data_bytes(value)?,
                "badicmp" => icmp.bad_checksum = true,
                _ => return Ok(false),
            }
            Ok(true)
        }
        Payload::Neighbour(neighbour) => set_neighbour(neighbour, key, value, names),
        Payload::Other(_, data) if key == "data" => {
            *data = data_bytes(value)?;
            Ok(true)
        }
        Payload::Other(..) => Ok(false),
    }
}

fn set_tcp(tcp: &mut Tcp, key: &str, value: &str, names: &Names) -> Result<bool, String> {
    match key {
        "seq" => tcp.seq = number(value)?,
        "ack" => tcp.ack = number(value)?,
        "win" => tcp.window = number(value)?,
        "urg" => tcp.urgent = number(value)?,
        "opts" => {
            let area = options::parse(value, names)?;
            (tcp.options, tcp.signature) = (area.bytes, area.signature);
        }
        "data" => tcp.data = data_bytes(value)?,
        "badtcp" => tcp.bad_checksum = true,
        "doff" => tcp.wrong_offset = Some(number(value)?),
        "TCP" => {}
        _ => match FLAGS.iter().find(|(name, _)| *name == key && value.is_empty()) {
            Some((_, bit)) => tcp.flags |= bit,
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn set_udp(udp: &mut Udp, key: &str, value: &str) -> Result<bool, String> {
    match key {
        "badudp" => udp.sum = Sum::Wrong,
        "nosum" => udp.sum = Sum::Zero,
        "udpsum" => udp.sum = Sum::Right,
        "udplen" => udp.wrong_length = Some(number(value)?),
        "data" => udp.data = data_bytes(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn set_tunnel(tunnel: &mut Tunnel, key: &str, value: &str) -> Result<bool, String> {
    match (key, &mut tunnel.format) {
        ("data", _) => tunnel.content.data = data_bytes(value)?,
        ("short", _) => tunnel.content.cut = Some(number(value)?),
        ("greflags", Format::Gre(gre)) => gre.flags = hex16(value)?,
        ("greproto", Format::Gre(gre)) => gre.protocol = Some(hex16(value)?),
        ("greopts", Format::Gre(gre)) => gre.options = hex(value)?,
        ("sport", Format::Gue(gue)) => gue.udp.source = number(value)?,
        ("dport", Format::Gue(gue)) => gue.udp.destination = number(value)?,
        ("guever", Format::Gue(gue)) => gue.version = number(value)?,
        ("guectl", Format::Gue(gue)) => gue.control = true,
        ("guehlen", Format::Gue(gue)) => gue.wrong_length = Some(number(value)?),
        ("gueproto", Format::Gue(gue)) => gue.protocol = Some(number(value)?),
        ("gueflags", Format::Gue(gue)) => gue.flags = hex16(value)?,
        ("gueopts", Format::Gue(gue)) => gue.options = hex(value)?,
        (_, Format::Gue(gue)) => return set_udp(&mut gue.udp, key, value),
        _ => return Ok(false),
    }
    Ok(true)
}

fn set_neighbour(
    neighbour: &mut Neighbour,
    key: &str,
    value: &str,
    names: &Names,
) -> Result<bool, String> {
    match (key, value) {
        ("target", _) => neighbour.target = v6(names.endpoint(value)?.0)?,
        ("lla", "none") => neighbour.mac = None,
        ("lla", _) => neighbour.mac = Some(names.mac(value)?),
        ("flags", "none") => neighbour.flags = 0,
        ("flags", _) => {
            let bit = |letter| NEIGHBOUR_FLAGS.iter().find(|(known, _)| *known == letter);
            let bits = value.chars().map(|letter| bit(letter).map(|(_, bit)| bit));
            let bits = bits.collect::<Option<Vec<_>>>().ok_or(format!("{value} are no flags"))?;
            neighbour.flags = bits.into_iter().sum();
        }
        ("badicmp", _) => neighbour.bad_checksum = true,
        _ => return Ok(false),
    }
    Ok(true)
}
