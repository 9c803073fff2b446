//! Connections that a copy opened: packets of their web servers, and plain packets of their
//! gateways.

use super::mode::{self, Part};
use super::connection::{ANSWERED, ESTABLISHED};
use super::{Common, Door, Held, Phase};
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::Obstacle;
use crate::wire::family::{Endpoint, Family};
use crate::role::{Context, Foreseen};
use crate::stage::tag::Code;
use crate::table::Slot;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};
use crate::wire::tcp::{self, Flags};

/// By then what was on its way when a RST was sent has arrived.
const QUIET: Ticks = Ticks::from_secs(3);

impl<F: Family> Door<'_, F> {
    /// A TCP packet from the inside: a web server's, in the form of its connection (op 412,
    /// 442, 462).
    #[inline]
    pub(super) fn web_server_packet<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = packet.destination::<F>();
        let Foreseen { hash, guess, .. } = *foreseen;
        let Some(slot) = self.held.find_ahead(hash, guess, client, context.now) else {
            return Verdict::NoEntry;
        };
        let entry = self.held.get(slot);
        if packet.source::<F>() != entry.value.sends_as() {
            return Verdict::NoEntry;
        }
        let flags = tcp::flags(packet.tcp());
        if flags.is_acknowledgement()
            && entry.value.is_succeeded_by(tcp::acknowledgement(packet.tcp()))
        {
            let successor = entry.value.successor();
            *self.held.value_mut(slot) = successor;
            self.grant(slot);
            self.held.move_to(slot, Phase::Opening, context.now);
        }
        let entry = self.held.get(slot);
        let (held, phase) = (entry.value, entry.state());
        let is_answer = flags.is_acknowledgement()
            || flags.rst() && (phase == Phase::Opening || refuses(packet, held.isn));
        if held.marks & ESTABLISHED == 0 && flags.is_acknowledgement() {
            // One that nobody asked for would go to a spoofed client as well.
            let Some(left) = held.credit.checked_sub(1) else {
                // What still repeats itself must not outlive what is known of it: without an
                // entry it would pass.
                self.held.touch(slot, context.now);
                return Verdict::AcknowledgementUnasked;
            };
            let held = self.held.value_mut(slot);
            held.credit = left;
            held.answered = tcp::sequence(packet.tcp()).wrapping_add(1);
            held.marks |= ANSWERED;
        }
        self.heard(slot, Side::Inside, flags, context.now);
        if flags.is_acknowledgement() && mode::clamp(packet, &held, &self.common.settings.path) {
            self.common.counters.clamped.add(1);
        }
        let part = if is_answer { Part::Answer } else { Part::Data };
        self.send_to_client(packet, part, client, &held, Verdict::FromWebServer, context)
    }

    /// On to the client; the verdict, unless something is in the way.
    #[inline]
    pub(super) fn send_to_client<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        part: Part,
        client: Endpoint<F>,
        held: &Held<F>,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match mode::to_client(packet, part, client, held, &self.common.settings.path) {
            Ok(()) => verdict,
            Err(Obstacle::NoRoom) => Verdict::NoBuffer,
            Err(Obstacle::TooBig(room)) => {
                let Common { oversize, settings, counters, .. } = &mut *self.common;
                let put = |number, fragment: &mut _| {
                    let part = if number == 0 { part } else { Part::LaterFragment };
                    mode::to_client(fragment, part, client, held, &settings.path).is_ok()
                };
                oversize.refuse::<F, P>((Side::Inside, packet), room, counters, context, put)
            }
        }
    }

    /// A plain TCP packet from the outside: what gateways of configurations A and B send.
    #[inline]
    pub(super) fn gateway_packet<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        foreseen: &Foreseen,
        now: Ticks,
    ) -> Verdict {
        let (Foreseen { hash, guess, .. }, client) = (*foreseen, packet.source::<F>());
        let Some(slot) = self.held.find_ahead(hash, guess, client, now) else {
            return Verdict::NoEntry;
        };
        let held = &self.held.get(slot).value;
        if held.configuration == Code::C || held.replica != packet.destination() {
            return Verdict::NoEntry;
        }
        self.client_goes_on(slot, packet.tcp(), now);
        Verdict::ToWebServer
    }

    /// A packet of the client has come, whichever way.
    #[inline]
    pub(super) fn client_goes_on(&mut self, slot: Slot, tcp: &[u8], now: Ticks) {
        let flags = tcp::flags(tcp);
        if flags.is_start() {
            // Repeated by the gateway to the winner alone: another acknowledgement is asked for.
            self.grant(slot);
        }
        if flags.0 & Flags::ACK != 0 && self.held.get(slot).value.marks & ESTABLISHED == 0 {
            self.may_be_taken_up(slot, tcp::acknowledgement(tcp), now);
        }
        self.heard(slot, Side::Outside, flags, now);
    }

    /// The client acknowledges something of a connection that it has not gone on with before.
    fn may_be_taken_up(&mut self, slot: Slot, acknowledgement: u32, now: Ticks) {
        let entry = self.held.get(slot);
        let (held, phase) = (entry.value, entry.state());
        let closing = phase == Phase::Closing;
        // Nobody may have taken notice of the RST; but what was refused is not taken up.
        if !held.is_taken_up_by(acknowledgement) || closing && held.marks & ANSWERED == 0 {
            return;
        }
        self.held.value_mut(slot).marks |= ESTABLISHED;
        if !closing {
            self.held.move_to(slot, Phase::Established, now);
        }
    }

    /// The web server may acknowledge once more.
    pub(super) fn grant(&mut self, slot: Slot) {
        let more = 1 + self.common.settings.acknowledgement_repeats;
        let held = self.held.value_mut(slot);
        held.credit = held.credit.saturating_add(more);
    }

    #[inline]
    fn heard(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        if self.held.get(slot).state() == Phase::Closing {
            self.goes_on(slot, now);
        }
        self.held.touch(slot, now);
        if flags.fin() || flags.rst() {
            let held = self.held.value_mut(slot);
            held.marks |= u8::from(flags.fin()) << from as u8;
            if flags.rst() || held.has_both_fins() {
                self.held.move_to(slot, Phase::Closing, now);
            }
        }
    }
}

impl<F: Family> Door<'_, F> {
    /// Traffic of a closing connection: after some quiet, that of one whose RST nobody took notice
    /// of (RFC 7857, section 2). It is again what it was: a blind RST with something after it must
    /// not make a connection that stays, as a blind acknowledgement makes none.
    #[cold]
    fn goes_on(&mut self, slot: Slot, now: Ticks) {
        let entry = self.held.get(slot);
        if !entry.value.has_both_fins() && now.since(entry.seen()) >= QUIET {
            let taken_up = entry.value.marks & ESTABLISHED != 0;
            let phase = if taken_up { Phase::Established } else { Phase::Opening };
            self.held.move_to(slot, phase, now);
        }
    }
}

/// Whether a RST answers the start packet (RFC 9293, section 3.10.7.1): the first one has made the
/// connection a closing one, and a copy may come twice.
fn refuses<B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    let tcp = packet.tcp();
    tcp::sequence(tcp) == 0 && tcp::acknowledgement(tcp) == isn.wrapping_add(1)
}

impl<F: Family> Held<F> {
    /// The source of the web server's packets: V when it got the SYN for V.
    #[inline]
    pub(super) fn sends_as(&self) -> Endpoint<F> {
        if self.bears_service { self.server } else { self.replica }
    }
}
