//! Answers to ARP requests and neighbour solicitations for addresses of the appliance.

use std::net::IpAddr;

use super::is_station;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet};
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::{self, Mac};
use crate::wire::family::Version;
use crate::wire::nd::{self, Message, What};

/// The result of [`answer`].
#[derive(Debug)]
pub enum Answer<B> {
    /// The packet asks for no address of the appliance.
    NotForUs,
    /// The answer, to be sent by the side that the request was received on.
    Made(B),
    /// The packet should be answered, but the pool is empty.
    NoBuffer,
}

/// Answers an ARP request or a neighbour solicitation for an address of the appliance.
///
/// `own` is the MAC address of the side that the packet was received on. Its link-local address,
/// from which IPv6 probes are sent, is always answered for; for any other address `has_address`
/// decides. The answer has the VLAN tags of the packet.
pub fn answer<P: Pool>(
    packet: &Packet<P::Buffer>,
    own: Mac,
    has_address: impl Fn(IpAddr) -> bool,
    pool: &mut P,
) -> Answer<P::Buffer> {
    match (packet.view.kind, packet.view.version) {
        (Kind::Arp, _) => {
            let request = Arp::parse(packet.ip()).filter(|arp| {
                arp.operation == arp::REQUEST
                    && is_station(arp.sender_mac)
                    && has_address(arp.target.into())
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
            reply_to(packet, request.sender_mac, own, arp::LEN, pool, emit)
        }
        (Kind::Icmp, Version::V6) => {
            let request = Message::parse(packet.ip()).filter(|request| {
                request.what == What::Solicitation
                    && (has_address(request.target.into()) || request.target == nd::link_local(own))
            });
            let Some(request) = request else { return Answer::NotForUs };
            // Duplicate address detection has no source address: the answer goes to all nodes (RFC
            // 4861, section 7.2.4).
            let has_source = !request.source.is_unspecified();
            let destination = if has_source { request.source } else { nd::ALL_NODES };
            // A unicast solicitation may omit the link-layer address; the frame's source is used
            // then.
            let mac = match has_source {
                true => request.mac.unwrap_or(ethernet::source(packet.buffer.head())),
                false => nd::multicast_mac(destination),
            };
            if has_source && !is_station(mac) {
                return Answer::NotForUs;
            }
            let what =
                What::Advertisement { router: false, solicited: has_source, overrides: true };
            let (source, target) = (request.target, request.target);
            let reply = Message { what, source, destination, target, mac: Some(own) };
            reply_to(packet, mac, own, reply.length(), pool, |bytes| reply.emit(bytes))
        }
        _ => Answer::NotForUs,
    }
}

/// Returns a frame with the request's Ethernet header, including VLAN tags, but these MAC
/// addresses. `emit` writes the `length` bytes behind it.
fn reply_to<P: Pool>(
    request: &Packet<P::Buffer>,
    destination: Mac,
    source: Mac,
    length: usize,
    pool: &mut P,
    emit: impl FnOnce(&mut [u8]),
) -> Answer<P::Buffer> {
    let l3 = usize::from(request.view.l3);
    let Some(mut frame) = pool.alloc(l3 + length) else { return Answer::NoBuffer };
    let bytes = frame.head_mut();
    bytes[..l3].copy_from_slice(&request.buffer.head()[..l3]);
    ethernet::set_destination(bytes, destination);
    ethernet::set_source(bytes, source);
    emit(&mut bytes[l3..]);
    Answer::Made(frame)
}
