//! The end of a gateway whose table is not kept: both ends of the connections that replicas have won
//! are reset, because nobody could translate their packets any more.

use std::net::IpAddr;

use super::flow::Phase;
use super::mode::Mode;
use super::{Gateway, GatewayFor};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::policy::clients::ClientHash;
use crate::role::Context;
use crate::stage::reset::Way;
use crate::wire::ethernet;
use crate::wire::family::Family;

/// The clients whose Ethernet header is remembered, each by a place of its hash.
const CLIENTS: usize = 1 << 10;
/// Connections whose ends are told at once.
const AT_ONCE: usize = 32;

/// An Ethernet header of a client's frame.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    /// The hash of the client's address.
    client: u32,
    length: u8,
    bytes: [u8; ethernet::MAX_HEADER],
}

/// The ways to clients and servers: Ethernet headers of clients' SYNs. Most gateways have one router
/// on either side; for others, those of the last clients are remembered one by one.
pub(super) struct Ways {
    last: Header,
    of_clients: Box<[Header]>,
    hash: ClientHash,
    /// The next place of the tables, IPv4 first, whose connection is told.
    next: usize,
}

impl Ways {
    pub(super) fn new(hash_key: (u64, u64)) -> Self {
        let of_clients = vec![Header::default(); CLIENTS].into_boxed_slice();
        let (last, hash) = (Header::default(), ClientHash::new(hash_key));
        Self { last, of_clients, hash, next: 0 }
    }

    /// Notes a client's SYN.
    pub(super) fn note<B: Buffer>(&mut self, client: IpAddr, packet: &Packet<B>) {
        let length = usize::from(packet.view.l3).min(ethernet::MAX_HEADER);
        let client = self.hash.address(client);
        let mut header = Header { client, length: length as u8, ..Header::default() };
        header.bytes[..length].copy_from_slice(&packet.buffer.head()[..length]);
        self.last = header;
        self.of_clients[client as usize % CLIENTS] = header;
    }

    /// Returns the header of this client's frames, or of the last client's.
    fn of(&self, client: IpAddr) -> Header {
        let client = self.hash.address(client);
        let own = self.of_clients[client as usize % CLIENTS];
        if own.length > 0 && own.client == client { own } else { self.last }
    }
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Tells the ends of the connection at a place of the table. Returns whether there was one.
    fn say_goodbye_at<P: Pool>(&self, place: usize, context: &mut Context<'_, P>) -> bool {
        let Some(entry) = self.flows.at(place) else { return false };
        let is_open = matches!(entry.state(), Phase::HalfOpen | Phase::Replica | Phase::HalfClosed);
        let (flow, client) = (&entry.value, entry.key);
        let header = self.common.ways.of(client.address.into());
        if !is_open || header.length == 0 {
            return false;
        }
        let way = Way::Along(&header.bytes[..usize::from(header.length)]);
        let numbers = Side::ALL.map(|side| flow.next_from(side));
        self.reset_both(way, &flow.translation(client), (numbers[0], numbers[1]), context);
        true
    }
}

impl<M: Mode> Gateway<M> {
    /// Tells the ends of a few more connections.
    pub(super) fn say_some_goodbyes<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        let first_v6 = self.v4.flows.extent();
        let end = first_v6 + self.v6.flows.extent();
        let mut told = 0;
        while self.common.ways.next < end && told < AT_ONCE {
            let place = self.common.ways.next;
            let was_open = match place.checked_sub(first_v6) {
                None => self.for_v4().say_goodbye_at(place, context),
                Some(place) => self.for_v6().say_goodbye_at(place, context),
            };
            told += usize::from(was_open);
            self.common.ways.next += 1;
        }
    }
}
