//! IPv6 extension headers.

use firstack_packets::Extension;
use firstack_packets::ip::AUTHENTICATION;

use super::number;
use crate::scenario::{hex, to_hex};

/// Those that have names.
const NAMES: [(&str, u8); 8] = [
    ("hop", 0),
    ("route", ROUTE),
    ("esp", 50),
    ("ah", AUTHENTICATION),
    ("dst", 60),
    ("mobility", 135),
    ("hip", 139),
    ("shim6", 140),
];
const ROUTE: u8 = 43;

/// Bytes of a header that says no more than its name, from the second on.
fn usual(kind: u8) -> Vec<u8> {
    match kind {
        // Options: nothing but padding.
        0 | 60 => vec![0, 1, 4, 0, 0, 0, 0],
        ROUTE => route(0),
        // SPI 1, sequence number 1, and a check value of 12 bytes.
        AUTHENTICATION => {
            let mut rest = vec![4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
            rest.extend([0xa5; 12]);
            rest
        }
        _ => vec![0; 7],
    }
}

/// A routing header of a type for experiments (RFC 4727).
fn route(segments_left: u8) -> Vec<u8> {
    vec![0, 253, segments_left, 0, 0, 0, 0]
}

/// Reads a list of them.
pub(super) fn parse(text: &str) -> Result<Vec<Extension>, String> {
    let mut list = Vec::new();
    for item in text.split(',').filter(|item| *item != "none") {
        let (item, count) = match item.split_once('*') {
            Some((item, count)) => (item, number(count)?),
            None => (item, 1),
        };
        let (name, rest) = item.split_once(':').unwrap_or((item, ""));
        let named = NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let extension = if item == "frag" {
            Extension::Fragment
        } else {
            let kind = named.map_or_else(|| number(name), Ok)?;
            let bytes = match (rest.strip_prefix('x'), kind) {
                (Some(bytes), _) => hex(bytes)?,
                (None, ROUTE) if !rest.is_empty() => route(number(rest)?),
                _ if rest.is_empty() => usual(kind),
                _ => return Err(format!("{item} is no extension header")),
            };
            Extension::Other(kind, bytes)
        };
        list.extend(std::iter::repeat_n(extension, count));
    }
    Ok(list)
}

/// The notation for them.
pub fn show(list: &[Extension]) -> String {
    let mut items: Vec<(String, usize)> = Vec::new();
    for extension in list {
        let item = show_one(extension);
        match items.last_mut() {
            Some((last, count)) if *last == item => *count += 1,
            _ => items.push((item, 1)),
        }
    }
    let one = |(item, count): (String, usize)| match count {
        1 => item,
        count => format!("{item}*{count}"),
    };
    items.into_iter().map(one).collect::<Vec<_>>().join(",")
}

fn show_one(extension: &Extension) -> String {
    let Extension::Other(kind, rest) = extension else { return "frag".to_owned() };
    let named = NAMES.iter().find(|(_, known)| known == kind);
    let name = named.map_or_else(|| kind.to_string(), |(name, _)| (*name).to_owned());
    match rest.get(2) {
        _ if *rest == usual(*kind) => name,
        Some(&left) if *kind == ROUTE && *rest == route(left) => format!("{name}:{left}"),
        _ => format!("{name}:x{}", to_hex(rest)),
    }
}
