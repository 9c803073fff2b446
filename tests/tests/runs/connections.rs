//! Frames of many clients, and what of them belongs together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firstack_tests::scenario::notation::parse;
use firstack_tests::scenario::{Scenario, Side};

use crate::harness::BURST;

/// The clients of the tests with connections of many: one connection of each address, and so many
/// that one packet of each is a round.
pub const CLIENTS: usize = BURST;

/// A client's endpoint; clients of IPv4 and of IPv6 each are in prefixes of their own.
pub fn client(version: u8, number: usize) -> String {
    match version {
        4 => format!("198.18.{number}.10:4000"),
        _ => format!("[2001:db8:{:x}::10]:4000", 0xc00 + number),
    }
}

/// For each of these lines of a scenario's notation: a frame of each client, which `CLIENT` stands
/// for, or `CLIENT6` for those of IPv6.
pub fn in_rounds(scenario: &Scenario, side: Side, lines: &[String]) -> Vec<Vec<u8>> {
    let scope = scenario.scope(side.other(), None);
    let of_all = |line: &String| {
        let version = if line.contains("CLIENT6") { 6 } else { 4 };
        let of = |number| {
            let line =
                line.replace("CLIENT6", "CLIENT").replace("CLIENT", &client(version, number));
            parse(&line, scope).unwrap_or_else(|error| panic!("{line}: {error}")).bytes()
        };
        (1..=CLIENTS).map(of).collect::<Vec<_>>()
    };
    lines.iter().flat_map(of_all).collect()
}

/// The same in the order of the clients.
pub fn for_each_client(scenario: &Scenario, side: Side, lines: &[&str]) -> Vec<Vec<u8>> {
    let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
    let rounds = in_rounds(scenario, side, &lines);
    let of_client = |number| rounds.iter().skip(number).step_by(CLIENTS).cloned();
    (0..CLIENTS).flat_map(of_client).collect()
}

/// Protocol, addresses and payload of an IP packet.
pub fn ip(packet: &[u8]) -> Option<(u8, [IpAddr; 2], &[u8])> {
    let four = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let six =
        |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match packet.first()? >> 4 {
        4 => Some((packet[9], [four(12)?.into(), four(16)?.into()], packet.get(20..)?)),
        6 => Some((packet[6], [six(8)?.into(), six(24)?.into()], packet.get(40..)?)),
        _ => None,
    }
}

/// Protocol and client of a frame, the innermost packet's or the quoted one's: what tells
/// connections apart here, each client having one of each protocol.
pub fn connection(frame: &[u8]) -> Option<(u8, IpAddr)> {
    let (mut protocol, mut ends, mut payload) = ip(frame.get(14..)?)?;
    loop {
        // IP in IP, GRE without options, GUE, what an ICMP error quotes.
        let inner = match protocol {
            4 | 41 => payload,
            47 => payload.get(4..)?,
            17 if payload.get(2..4)? == 6080u16.to_be_bytes() => payload.get(12..)?,
            1 | 58 => payload.get(8..)?,
            _ => break,
        };
        (protocol, ends, payload) = ip(inner)?;
    }
    let is_client = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets()[..2] == [198, 18],
        IpAddr::V6(address) => address.segments()[2] >> 8 == 0xc,
    };
    Some((protocol, ends.into_iter().find(is_client)?))
}

/// The frames of each connection, in their order.
pub fn by_connection(
    frames: impl IntoIterator<Item = Vec<u8>>,
) -> BTreeMap<Option<(u8, IpAddr)>, Vec<Vec<u8>>> {
    let mut connections: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        connections.entry(connection(&frame)).or_default().push(frame);
    }
    connections
}
