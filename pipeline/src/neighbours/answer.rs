//! The answer to who asks for an address of the appliance.

use std::net::IpAddr;

use super::is_station;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet};
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, Mac};
use crate::wire::family::Version;
use crate::wire::nd::{self, Message, What};

/// What became of a question.
#[derive(Debug)]
pub enum Answer<B> {
    /// It is none, or not for an address of the appliance.
    NotForUs,
    /// The answer, to leave by the side that the question came in by.
    Made(B),
    /// It should be answered, but the pool is empty.
    NoBuffer,
}

/// Answers an ARP request or a neighbour solicitation for an address that the appliance bears.
/// `own` is the MAC address of the side that it came in by, whose link-local address, from which
/// IPv6 probes are sent, is borne as well. The answer keeps the question's VLAN tags.
pub fn answer<P: Pool>(
    packet: &Packet<P::Buffer>,
    own: Mac,
    bears: impl Fn(IpAddr) -> bool,
    pool: &mut P,
) -> Answer<P::Buffer> {
    match (packet.view.kind, packet.view.version) {
        (Kind::Arp, _) => {
            let request = Arp::parse(packet.ip()).filter(|arp| {
                arp.operation == arp::REQUEST
                    && is_station(arp.sender_mac)
                    && bears(arp.target.into())
            });
            let Some(request) = request else { return Answer::NotForUs };
            let reply = Arp {
                operation: arp::REPLY,
                sender_mac: own,
                sender: request.target,
                target_mac: request.sender_mac,
                target: request.sender,
            };
            let emit = |bytes: &mut [u8]| reply.emit(bytes);
            reply_to(packet, (request.sender_mac, own), arp::LEN, pool, emit)
        }
        (Kind::Icmp, Version::V6) => {
            let asked = Message::parse(packet.ip()).filter(|asked| {
                asked.what == What::Solicitation
                    && (bears(asked.target.into()) || asked.target == nd::link_local(own))
            });
            let Some(asked) = asked else { return Answer::NotForUs };
            // Who makes sure that nobody has the address cannot be answered but by all hearing it.
            let known = !asked.source.is_unspecified();
            let destination = if known { asked.source } else { nd::ALL_NODES };
            // A solicitation to one node need not say where it is from: its frame does.
            let mac = match known {
                true => asked.mac.unwrap_or(ethernet::source(packet.buffer.head())),
                false => nd::multicast_mac(destination),
            };
            if known && !is_station(mac) {
                return Answer::NotForUs;
            }
            let what = What::Advertisement { router: false, solicited: known, overrides: true };
            let (source, target) = (asked.target, asked.target);
            let reply = Message { what, source, destination, target, mac: Some(own) };
            reply_to(packet, (mac, own), reply.length(), pool, |bytes| reply.emit(bytes))
        }
        _ => Answer::NotForUs,
    }
}

/// A frame with the question's Ethernet header, VLAN tags and all, but these addresses.
fn reply_to<P: Pool>(
    question: &Packet<P::Buffer>,
    (destination, source): (Mac, Mac),
    length: usize,
    pool: &mut P,
    emit: impl FnOnce(&mut [u8]),
) -> Answer<P::Buffer> {
    let l3 = usize::from(question.view.l3);
    let Some(mut frame) = pool.alloc(l3 + length) else { return Answer::NoBuffer };
    let bytes = frame.head_mut();
    bytes[..l3].copy_from_slice(&question.buffer.head()[..l3]);
    ethernet::set_destination(bytes, destination);
    ethernet::set_source(bytes, source);
    emit(&mut bytes[l3..]);
    Answer::Made(frame)
}
