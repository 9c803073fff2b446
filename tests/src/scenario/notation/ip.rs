//! IP packets: their headers, and what is in brackets.

use firstack_packets::{Content, Extension, Format, Header, Ip, Payload, Tcp, Tunnel};

use super::{Parser, inner, ip_of, number, unknown};
use super::{WINDOW, extensions, payload};
use crate::scenario::hex;

impl Parser<'_> {
    /// A packet, up to the end or a closing bracket.
    pub(super) fn packet(&mut self) -> Result<Ip, String> {
        let (mut ip, words) = match self.peek() {
            Some("same") => (ip_of(self.input()?)?.clone(), 1),
            Some("inner") => (inner(self.input()?)?.clone(), 1),
            _ => (self.addresses()?, 0),
        };
        self.at += words;
        while self.peek().is_some_and(|word| word != "]") {
            self.attribute_of_packet(&mut ip)?;
        }
        Ok(ip)
    }

    /// An attribute, or what is in brackets.
    pub(super) fn attribute_of_packet(&mut self, ip: &mut Ip) -> Result<(), String> {
        let word = self.next()?;
        if word == "[" {
            let packet = Some(Box::new(self.packet()?));
            self.expect("]")?;
            match &mut ip.payload {
                Payload::Icmp(icmp) => icmp.content.packet = packet,
                Payload::Tunnel(tunnel) => tunnel.content.packet = packet,
                payload => {
                    let number = match payload {
                        Payload::Other(number, _) => Some(*number),
                        _ => None,
                    };
                    let content = Content { packet, ..Content::default() };
                    *payload = Payload::Tunnel(Tunnel { format: Format::Ipip(number), content });
                }
            }
            return Ok(());
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let over_v6 = ip.header_is_v6();
        let known = set_header(ip, key, value)?
            || self.set_end(ip, key, value)?
            || payload::choose(&mut ip.payload, key, value, over_v6)?
            || payload::set(&mut ip.payload, key, value, self.scope.names)?;
        if known { Ok(()) } else { Err(unknown(word)) }
    }

    pub(super) fn addresses(&mut self) -> Result<Ip, String> {
        let source = self.scope.names.endpoint(self.next()?)?;
        self.expect(">")?;
        let destination = self.scope.names.endpoint(self.next()?)?;
        if source.0.is_ipv4() != destination.0.is_ipv4() {
            return Err(format!("{} and {} are of two families", source.0, destination.0));
        }
        let tcp =
            Tcp { source: source.1, destination: destination.1, window: WINDOW, ..Tcp::default() };
        Ok(Ip::new(source.0, destination.0, Payload::Tcp(tcp)))
    }

    fn set_end(&self, ip: &mut Ip, key: &str, value: &str) -> Result<bool, String> {
        if !matches!(key, "src" | "dst") {
            return Ok(false);
        }
        let (address, port) = self.scope.names.endpoint(value)?;
        if address.is_ipv4() != ip.source.is_ipv4() {
            return Err(format!("{value} is of the other family"));
        }
        let ports = ip.payload.ports_mut();
        let (own_address, own_port) = match key {
            "src" => (&mut ip.source, ports.map(|(source, _)| source)),
            _ => (&mut ip.destination, ports.map(|(_, destination)| destination)),
        };
        *own_address = address;
        if let Some(own_port) = own_port {
            *own_port = port;
        }
        Ok(true)
    }
}

fn set_header(ip: &mut Ip, key: &str, value: &str) -> Result<bool, String> {
    match key {
        "ttl" => ip.ttl = number(value)?,
        "tos" => ip.tos = hex(value)?.first().copied().unwrap_or(0),
        "id" if ip.header_is_v6() => {
            ip.id = number(value)?;
            ip.allow_fragment();
        }
        "id" => ip.id = number::<u16>(value)?.into(),
        "mf" => {
            ip.mf = true;
            ip.allow_fragment();
        }
        "frag" => {
            ip.offset = number(value)?;
            ip.allow_fragment();
        }
        "piece" => {
            let (offset, length) = value.split_once('+').ok_or(format!("{value}: no length"))?;
            let (offset, length) = (number(offset)?, number(length)?);
            ip.piece(offset, length).ok_or(format!("{value} is not in it"))?;
        }
        "ipver" => ip.wrong.version = Some(number(value)?),
        "iplen" => ip.wrong.length = Some(number(value)?),
        _ => match &mut ip.header {
            Header::V4 { df, options } => match key {
                "nodf" => *df = false,
                "ipopts" => *options = hex(value)?,
                "badip" => ip.wrong.checksum = true,
                "ihl" => ip.wrong.words = Some(number(value)?),
                _ => return Ok(false),
            },
            Header::V6 { flow, extensions } => match key {
                "flow" => *flow = number::<u32>(value)? & 0xf_ffff,
                "ext" => {
                    let was_fragment = extensions.contains(&Extension::Fragment);
                    *extensions = extensions::parse(value)?;
                    if was_fragment {
                        ip.allow_fragment();
                    }
                }
                _ => return Ok(false),
            },
        },
    }
    Ok(true)
}
