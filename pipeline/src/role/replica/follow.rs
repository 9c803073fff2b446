//! Plain packets of connections that a copy opened, and ARP.

use std::net::Ipv4Addr;

use super::{Phase, Replica};
use crate::buffer::{Buffer, Pool};
use crate::counters::Generated;
use crate::family::V4;
use crate::flow::BOTH_FINS;
use crate::role::{Context, send_made};
use crate::table::Hash;
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Packet, Side};
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet;
use crate::wire::tcp::{self, Flags};

impl Replica {
    /// A plain TCP packet, either way: untouched under configuration A, but followed.
    pub(super) fn follow<B: Buffer>(
        &mut self,
        from: Side,
        packet: &Packet<B>,
        hash: Hash,
        now: Ticks,
    ) -> Verdict {
        let Some(slot) =
            self.held.find(hash, Self::client(from, packet.buffer.head(), &packet.view), now)
        else {
            return Verdict::NoEntry;
        };
        let other_end = match from {
            Side::Inside => packet.source::<V4>(),
            Side::Outside => packet.destination::<V4>(),
        };
        if self.held.get(slot).value.replica != other_end {
            return Verdict::NoEntry;
        }
        let flags = tcp::flags(packet.tcp());
        self.held.touch(slot, now);
        if from == Side::Outside
            && flags.0 & Flags::ACK != 0
            && self.held.get(slot).state() == Phase::Opening
        {
            self.held.move_to(slot, Phase::Established, now);
        }
        let held = self.held.value_mut(slot);
        held.fins |= u8::from(flags.fin()) << from as u8;
        if flags.rst() || held.fins == BOTH_FINS {
            self.held.move_to(slot, Phase::Closing, now);
        }
        match from {
            Side::Inside => Verdict::FromWebServer,
            Side::Outside => Verdict::ToWebServer,
        }
    }

    /// ARP: learns web servers, answers for tunnel addresses that no host bears.
    pub(super) fn arp<P: Pool>(
        &self,
        from: Side,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(arp) = Arp::parse(packet.ip()) else { return Verdict::NonIp };
        let own = self.settings.macs[from as usize];
        match from {
            Side::Inside => {
                let learned = self.neighbours.learn(&arp);
                let ours = ethernet::destination(packet.buffer.head()) == own;
                if learned && ours { Verdict::ArpLearned } else { Verdict::NonIp }
            }
            Side::Outside if arp.operation == arp::REQUEST && self.bears(arp.target) => {
                // Behind the request's own Ethernet header, VLAN tags and all.
                let l3 = usize::from(packet.view.l3);
                let Some(mut frame) = context.pool.alloc(l3 + arp::LEN) else {
                    return Verdict::NoBuffer;
                };
                let bytes = frame.head_mut();
                bytes[..l3].copy_from_slice(&packet.buffer.head()[..l3]);
                ethernet::set_destination(bytes, arp.sender_mac);
                ethernet::set_source(bytes, own);
                let reply = Arp {
                    operation: arp::REPLY,
                    sender_mac: own,
                    sender: arp.target,
                    target_mac: arp.sender_mac,
                    target: arp.sender,
                };
                reply.emit(&mut bytes[l3..]);
                send_made(&self.counters, from, frame, Generated::ArpReply, context);
                Verdict::ArpAnswered
            }
            Side::Outside => Verdict::NonIp,
        }
    }

    /// Whether the appliance itself bears this tunnel address.
    fn bears(&self, address: Ipv4Addr) -> bool {
        let is_server =
            || self.settings.services.iter().flat_map(|s| &s.servers).any(|s| s.address == address);
        self.settings.tunnel_addresses.contains(&address) && !is_server()
    }
}
