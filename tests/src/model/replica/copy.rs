//! Packets in a tunnel from a switch, and direct copies.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use super::event::{Inside, Signature, Tag};
use super::{Entry, EntryState, MORE_COPIES, ReplicaModel};
use crate::model::gateway::opened;
use crate::model::options::clamped;
use crate::model::outcome::{Leaving, Outcome};
use crate::model::packet::Packet;
use crate::model::related::{IcmpError, icmp};
use crate::model::tunnel::{Outer, decapsulated_class};

/// A time as the replica keeps that of a copy: 16 bits in units of 2^23 ns; 0 stands for none.
fn copy_time(at: Duration) -> u16 {
    ((at.as_nanos() >> 23) as u16).max(1)
}

/// A client that was heard within this time is there.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Configuration and service of a copy, and its options if it is signed.
type Copy = (Configuration, usize, Option<Vec<u8>>);

/// Within so many units a copy is a duplicate.
const DUPLICATE_UNITS: u16 = 60;
/// How often one signature is admitted (protocol.md, 3.4).
const SIGNATURE_PASSES: u32 = 8;

impl Entry {
    /// Returns whether the web server was given this SYN a moment ago.
    fn was_given(&self, syn: &Packet, now: Duration) -> bool {
        let is_ours = self.isn == syn.sequence || self.next.is_some_and(|(n, _)| n == syn.sequence);
        let ago = |at: Duration| copy_time(now).wrapping_sub(copy_time(at));
        is_ours && self.server == syn.to && self.given.is_some_and(|at| ago(at) < DUPLICATE_UNITS)
    }
}

impl ReplicaModel {
    /// Handles a tunnel with a copy, or something similar, in it: `bare` is the packet without the
    /// tag.
    pub fn copy(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: Packet,
        bare: Packet,
        tag: Tag,
    ) -> Outcome {
        if self.is_direct(outer, &packet, tag) {
            let (ip, tcp) = (packet.ip_checksum, packet.tcp_checksum);
            return match opened(outer, ip, tcp, packet.traffic_class) {
                Ok(_) => self.taken(now, outer, &packet, &bare, tag, true),
                Err(verdict) => Outcome::dropped(verdict),
            };
        }
        if outer.from == packet.from.ip() {
            return self.tunnelled(now, outer, &packet);
        }
        self.of_switch(now, outer, &Inside::Copy(packet, bare, tag))
    }

    /// Returns whether it is a gateway's own copy: from the client's address, and tagged.
    fn is_direct(&self, outer: &Outer, packet: &Packet, tag: Tag) -> bool {
        let is_own = self.settings.tunnel_addresses.contains(&outer.to)
            || self.web_server(outer.to).is_some();
        let is_tagged_syn = packet.is_syn() && tag != Tag::None;
        self.settings.direct && is_own && is_tagged_syn && outer.from == packet.from.ip()
    }

    /// Takes a decapsulated copy.
    fn taken(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: &Packet,
        bare: &Packet,
        tag: Tag,
        is_direct: bool,
    ) -> Outcome {
        let class = packet.traffic_class;
        let class = decapsulated_class(class, outer.traffic_class).unwrap_or(class);
        let bare = Packet { traffic_class: class, ..bare.clone() };
        let (code, number) = match self.read(packet, tag) {
            Ok(copy) => copy,
            Err(verdict) => return Outcome::dropped(verdict),
        };
        let before = self.accepted;
        let is_signed = matches!(tag, Tag::Sound { signature: Signature::Right, .. });
        let signed = (is_signed && self.key.is_some()).then(|| packet.options.clone());
        let outcome = self.admit(now, outer, &bare, (code, number, signed));
        self.direct_copies += if is_direct { self.accepted - before } else { 0 };
        outcome
    }

    /// Handles a tunnel that is not a gateway's.
    pub fn of_switch(&mut self, now: Duration, outer: &Outer, inside: &Inside) -> Outcome {
        if !self.settings.tunnel_addresses.contains(&outer.to) {
            return Outcome::untouched(Verdict::ForeignTunnel);
        }
        if !crate::model::world::allows(&self.settings.switches, outer.from) {
            return Outcome::dropped(Verdict::PeerNotAllowed);
        }
        let (ip, tcp, class) = match inside {
            Inside::Copy(packet, ..) => {
                (packet.ip_checksum, packet.tcp_checksum, packet.traffic_class)
            }
            Inside::Nested => return Outcome::dropped(Verdict::TunnelNested),
            Inside::Fragment(packet, _) => (true, true, packet.traffic_class),
            Inside::Error(_) | Inside::Echo { .. } => (true, true, 0),
        };
        if let Err(verdict) = opened(outer, ip, tcp, class) {
            return Outcome::dropped(verdict);
        }
        match inside {
            Inside::Copy(packet, bare, tag) => self.taken(now, outer, packet, bare, *tag, false),
            Inside::Error(error) => self.routers_word(now, outer, error),
            Inside::Echo { switch, to, packet, word, data } => {
                if (*switch, *to) != (outer.from, outer.to) {
                    return Outcome::dropped(Verdict::TunnelIcmp);
                }
                if self.dead {
                    return Outcome::dropped(Verdict::ProbeIgnored);
                }
                let kind = if to.is_ipv6() { (129, 0) } else { (0, 0) };
                let answer = icmp(packet, (*to, *switch), kind, *word, data);
                Outcome::answered(Verdict::ProbeAnswered, Leaving::Frame(answer))
            }
            Inside::Fragment(..) | Inside::Nested => Outcome::dropped(Verdict::TunnelMalformed),
        }
    }

    /// Returns configuration and service of an acceptable copy, or the verdict against it.
    fn read(&self, packet: &Packet, tag: Tag) -> Result<(Configuration, usize), Verdict> {
        if !packet.tcp_checksum {
            return Err(Verdict::TunnelInnerChecksum);
        }
        if !packet.is_syn() {
            return Err(Verdict::CopyNotSyn);
        }
        if !packet.payload.is_empty() {
            return Err(Verdict::CopyData);
        }
        let (permitted, configuration, signature) = match tag {
            Tag::None => return Err(Verdict::CopyNotTagged),
            Tag::Bad => return Err(Verdict::BadTag),
            Tag::Sound { permitted, configuration, signature } => {
                (permitted, configuration, signature)
            }
        };
        if !permitted {
            return Err(Verdict::CopyNotTagged);
        }
        // Without keys no signature can be verified.
        let genuine = match signature {
            Signature::Right | Signature::Wrong if self.key.is_none() => false,
            Signature::Right => true,
            Signature::Wrong => return Err(Verdict::CopyBadSignature),
            Signature::None => false,
        };
        if !genuine && self.settings.require_signature {
            return Err(Verdict::CopyNotSigned);
        }
        let mut services = self.settings.services.iter();
        let number = services
            .position(|service| {
                let is_own = service.address == packet.to.ip();
                is_own && service.ports.contains(&packet.to.port()) && !service.retired
            })
            .ok_or(Verdict::CopyNoService)?;
        if !crate::model::world::allows(&self.settings.allowed_clients, packet.from.ip()) {
            return Err(Verdict::CopyClientNotAllowed);
        }
        Ok((configuration.ok_or(Verdict::CopyUnknownConfiguration)?, number))
    }

    /// Admits a copy and forwards it to the web server.
    fn admit(
        &mut self,
        now: Duration,
        outer: &Outer,
        bare: &Packet,
        (configuration, number, signed): Copy,
    ) -> Outcome {
        let server = self.settings.services[number].servers[0].clone();
        if self.dead || server.weight == 0 {
            return Outcome::dropped(Verdict::OutOfService);
        }
        let client = bare.from;
        let known = self.entry(client).cloned();
        if known.as_ref().is_some_and(|entry| entry.was_given(bare, now)) {
            return Outcome::dropped(Verdict::CopyDuplicate);
        }
        let is_signed = signed.is_some();
        if let Some(tag) = signed {
            let times = self.admitted.entry(tag).or_default();
            *times += 1;
            if *times > SIGNATURE_PASSES {
                return Outcome::dropped(Verdict::CopyReplayed);
            }
        }
        let repeated =
            known.as_ref().is_some_and(|e| e.isn == bare.sequence && e.server == bare.to);
        if repeated && known.as_ref().is_some_and(|entry| entry.copies_left == 0) {
            return Outcome::dropped(Verdict::CopyRetransmitLimit);
        }
        if self.is_busy(now) {
            return Outcome::dropped(Verdict::Busy);
        }
        if repeated {
            let entry = self.change(client);
            entry.copies_left -= 1;
            if matches!(entry.state, EntryState::Closed | EntryState::Lost) {
                (entry.fins, entry.state) = ([false; 2], EntryState::Opening);
                (entry.answered, entry.taken, entry.next) = (None, false, None);
            }
        } else {
            let replica = SocketAddr::new(server.address, server.port.unwrap_or(bare.to.port()));
            let bears = server.has_vip && configuration == Configuration::C;
            // Neither a RST nor silence is proof.
            let live = |e: &Entry| e.taken && e.fins != [true; 2];
            let elsewhere = |e: &Entry| (e.server, e.replica, e.bears) != (bare.to, replica, bears);
            let over = |e: &Entry| elsewhere(e) && is_signed && now - e.since >= HEARD_WITHIN;
            if let Some(known) = known.clone().filter(live).filter(|entry| !over(entry)) {
                if elsewhere(&known) {
                    return Outcome::dropped(Verdict::CopyEndpointInUse);
                }
                self.change(client).next = Some((bare.sequence, Some(configuration)));
                self.translates[usize::from(client.is_ipv6())] |= configuration != Configuration::A;
                let packet = match configuration {
                    Configuration::C => clamped(bare, self.room(client)),
                    Configuration::A | Configuration::B => bare.clone(),
                };
                let onward = packet.sent_to(known.sends_as());
                return self.give(now, outer, onward, &known, Verdict::CopyNewIsn);
            }
            if known.is_none() && !self.has_room(client) {
                return Outcome::dropped(Verdict::Busy);
            }
            let entry = Entry {
                server: bare.to,
                replica,
                configuration,
                state: EntryState::Opening,
                isn: bare.sequence,
                bears,
                credit: 0,
                answered: None,
                taken: false,
                expects: 0,
                next: None,
                copies_left: MORE_COPIES,
                given: None,
                fins: [false; 2],
                since: now,
                order: 0,
            };
            self.entries.insert(client, entry);
            self.accepted += 1;
            self.translates[usize::from(client.is_ipv6())] |= configuration != Configuration::A;
        }
        self.touch(now, client);
        let more = 1 + u32::from(self.settings.syn_ack_retransmits);
        let room = self.room(client);
        let entry = self.change(client);
        entry.credit += more;
        let entry = entry.clone();
        let packet = match entry.configuration {
            Configuration::C => clamped(bare, room),
            Configuration::A | Configuration::B => bare.clone(),
        };
        let verdict = if repeated { Verdict::CopyRetransmit } else { Verdict::CopyAccepted };
        self.give(now, outer, packet.sent_to(entry.sends_as()), &entry, verdict)
    }

    /// Forwards to the web server's MAC address, if known.
    fn give(
        &mut self,
        now: Duration,
        outer: &Outer,
        packet: Packet,
        entry: &Entry,
        verdict: Verdict,
    ) -> Outcome {
        let address = entry.replica.ip();
        self.change(packet.from).given = Some(now);
        match self.mac(outer, address) {
            Some(None) => Outcome::changed(verdict, packet),
            Some(Some(mac)) => {
                let macs = (mac, packet.macs.1);
                Outcome::changed(verdict, Packet { macs, ..packet })
            }
            None => {
                self.waiting.push((address, now, packet.frame()));
                Outcome::dropped(Verdict::Pending)
            }
        }
    }

    /// Returns the MAC address of a web server: not needed, this one, or unknown.
    fn mac(&self, outer: &Outer, address: std::net::IpAddr) -> Option<Option<[u8; 6]>> {
        let configured = self.web_server(address).and_then(|server| server.mac);
        match configured.or_else(|| self.neighbours.get(&address).copied()) {
            _ if configured.is_none() && address == outer.to => Some(None),
            Some(mac) => Some(Some(mac)),
            None => None,
        }
    }

    fn is_busy(&mut self, now: Duration) -> bool {
        // Those that were heard of in this unit of 2^36 ns, or in the three before.
        let unit = |at: Duration| at.as_nanos() >> 36;
        let heard = |entry: &&Entry| {
            entry.state == EntryState::Established && unit(now) - unit(entry.since) < 4
        };
        if self.busy
            || self.entries.values().filter(heard).count() >= self.settings.busy_connections
        {
            return true;
        }
        let rate = u128::from(self.settings.busy_syn_rate);
        let (tokens, filled) = self.tokens;
        let gained = (now - filled).as_nanos() * rate;
        let tokens = (tokens + gained).min(rate * 1_000_000_000);
        let left = tokens.checked_sub(1_000_000_000);
        self.tokens = (left.unwrap_or(tokens), now);
        left.is_none()
    }

    /// Returns whether there is room for this client, after an eviction if needed.
    fn has_room(&mut self, client: SocketAddr) -> bool {
        let family = usize::from(client.is_ipv6());
        let own = || self.entries.iter().filter(|(key, _)| usize::from(key.is_ipv6()) == family);
        if own().count() < self.settings.max_connections[family] {
            return true;
        }
        let oldest = |state| {
            let such = own().filter(|(_, entry)| entry.state == state);
            such.min_by_key(|(_, entry)| entry.order).map(|(key, entry)| (entry.since, *key))
        };
        // Of those that are over, the one that was heard of least recently.
        let over = [EntryState::Closed, EntryState::Lost].into_iter().filter_map(oldest);
        let gone = over.min_by_key(|(since, _)| *since);
        let gone = gone.or_else(|| oldest(EntryState::Opening));
        let gone = gone.or_else(|| oldest(EntryState::Reset)).map(|(_, key)| key);
        let Some(gone) = gone else { return false };
        self.evicted[family] += 1;
        self.entries.remove(&gone).is_some()
    }

    /// Under B a router reports to V that V's packet to the client was too big.
    fn routers_word(&mut self, now: Duration, outer: &Outer, error: &IcmpError) -> Outcome {
        let about = self.entry(error.quoted.to).filter(|entry| {
            entry.configuration == Configuration::B && error.quoted.from == entry.server
        });
        let Some(entry) = about.cloned() else { return Outcome::dropped(Verdict::TunnelIcmp) };
        if !error.is_sound() || !error.is_too_big() || error.tunnel.is_some() {
            return Outcome::dropped(Verdict::TunnelIcmp);
        }
        let mut changed = error.clone();
        changed.quoted.from = entry.replica;
        changed.to = entry.replica.ip();
        let address = entry.replica.ip();
        match self.mac(outer, address) {
            Some(None) => {}
            Some(Some(mac)) => changed.quoted.macs.0 = mac,
            None => {
                self.waiting.push((address, now, changed.frame()));
                return Outcome::dropped(Verdict::Pending);
            }
        }
        Outcome::sends(Verdict::IcmpTranslated, Leaving::Frame(changed.frame()))
    }
}
