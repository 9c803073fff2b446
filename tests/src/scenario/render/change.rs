//! `same` and `inner` with what is different, when little is.

use std::fmt::Write as _;

use firstack_packets::{Body, Frame, Header, Ip, Payload};

use super::line;
use crate::scenario::names::Names;
use crate::scenario::notation::{Scope, inner, parse, parse_packet};

/// For a frame.
pub(super) fn of_frame(frame: &Frame, input: &Frame, scope: Scope<'_>) -> Option<String> {
    let within = inner(input).ok().map(|inner| Frame {
        body: Body::Ip(inner.clone()),
        padding: 0,
        ..input.clone()
    });
    let candidates = [Some(("same", input.clone())), within.map(|inner| ("inner", inner))];
    candidates.into_iter().flatten().find_map(|(word, base)| {
        let mut text = word.to_owned();
        let names = scope.names;
        for (key, new, old) in [("to", frame.to, base.to), ("from", frame.from, base.from)] {
            if new != old {
                let _ = write!(text, " {key}={}", names.show_mac(new));
            }
        }
        if frame.padding != base.padding {
            let _ = write!(text, " pad={}", frame.padding);
        }
        if frame.body != base.body {
            let (Body::Ip(ip), Body::Ip(old)) = (&frame.body, &base.body) else { return None };
            text += &changes(ip, old, names)?;
        }
        (parse(&text, scope).ok()?.bytes() == frame.bytes()).then_some(text)
    })
}

/// For a packet in brackets, of which so many bytes are to be seen.
pub(super) fn of_packet(ip: &Ip, cut: Option<usize>, scope: Scope<'_>) -> Option<String> {
    let input = scope.input?;
    let Body::Ip(same) = &input.body else { return None };
    let wanted = ip.bytes();
    let cut = cut.unwrap_or(wanted.len());
    let fits = |text: &str| {
        let bytes = parse_packet(text, scope).ok()?.bytes();
        let whole = cut < wanted.len() || bytes.len() == wanted.len();
        (whole && bytes.get(..cut) == wanted.get(..cut)).then(|| text.to_owned())
    };
    let candidates = [("same", Some(same)), ("inner", inner(input).ok())];
    candidates.into_iter().find_map(|(word, base)| {
        let base = base?;
        fits(word).or_else(|| fits(&format!("{word}{}", changes(ip, base, scope.names)?)))
    })
}

/// The attributes that make one packet of another, if they do: the caller looks.
fn changes(ip: &Ip, base: &Ip, names: &Names) -> Option<String> {
    let is_fragment = match (&ip.payload, &base.payload) {
        (Payload::Other(..), Payload::Other(..)) => false,
        (Payload::Other(..), _) => true,
        (new, old) if std::mem::discriminant(new) == std::mem::discriminant(old) => false,
        _ => return None,
    };
    if ip.header_is_v6() != base.header_is_v6() {
        return None;
    }
    let mut text = ends(ip, base, is_fragment, names);
    if let (Payload::Tcp(tcp), Payload::Tcp(old)) = (&ip.payload, &base.payload) {
        if tcp.option_area(ip.ends()) != old.option_area(base.ends()) {
            let shown = line::options(ip, tcp, names);
            let _ = write!(text, " opts={}", if shown.is_empty() { "none" } else { &shown });
        }
        for (key, new, old) in [("seq", tcp.seq, old.seq), ("ack", tcp.ack, old.ack)] {
            if new != old {
                let _ = write!(text, " {key}={new}");
            }
        }
    }
    if ip.tos != base.tos {
        let _ = write!(text, " tos={:02x}", ip.tos);
    }
    if ip.ttl != base.ttl {
        let _ = write!(text, " ttl={}", ip.ttl);
    }
    if let (Header::V6 { flow, .. }, Header::V6 { flow: old, .. }) = (&ip.header, &base.header)
        && flow != old
    {
        let _ = write!(text, " flow={flow}");
    }
    if let Payload::Other(_, data) = &ip.payload
        && is_fragment
        && (ip.mf, ip.offset) != (base.mf, base.offset)
    {
        if ip.id != base.id {
            let _ = write!(text, " id={}", ip.id);
        }
        let _ = write!(text, " piece={}+{}", ip.offset, data.len());
    }
    Some(text)
}

/// `src` and `dst`, if they are other ones.
fn ends(ip: &Ip, base: &Ip, is_fragment: bool, names: &Names) -> String {
    let old_ports = base.payload.ports();
    let ports = match &ip.payload {
        // The first fragment has the ports, of the others nobody can tell.
        Payload::Other(_, data) if is_fragment && ip.offset == 0 && data.len() >= 4 => {
            let port = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
            Some((port(0), port(2)))
        }
        payload => payload.ports().or(old_ports),
    };
    let (new, old) = (ports.unwrap_or_default(), old_ports.unwrap_or_default());
    let mut text = String::new();
    for (key, new, old) in [
        ("src", (ip.source, new.0), (base.source, old.0)),
        ("dst", (ip.destination, new.1), (base.destination, old.1)),
    ] {
        if new != old && old_ports.is_some() {
            let _ = write!(text, " {key}={}", names.show(new));
        } else if new.0 != old.0 {
            let _ = write!(text, " {key}={}", names.show_address(new.0));
        }
    }
    text
}
