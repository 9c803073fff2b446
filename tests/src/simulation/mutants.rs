//! Mutants: broken gateways that the simulation's checks must detect.

use pipeline::base::time::Ticks;
use pipeline::memory::{Event, Report};
use pipeline::packet::view::Side;
use pipeline::verdict::Verdict;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    TcpSeqNumber,
};

use super::segment;
use super::station::{Frame, Leaving};

/// A defect of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Losers are not reset.
    NoResets,
    /// The winner's packets have a wrong source port.
    WrongSource,
    /// A loser gets an ACK in the client's name instead of a RST.
    TwoWinners,
    /// RSTs to losers have an unacceptable sequence number.
    WrongResets,
    /// One byte of the responses is changed.
    WrongByte,
    /// The memory ranks the slowest replica first.
    RanksBackwards,
    /// The memory does not notice that copies are not answered.
    ForgetsCopies,
    /// The switch is asked for 14 copies instead of few.
    ExploresAlways,
    /// The memory learns nothing.
    LearnsNothing,
}

impl Mutant {
    /// Those of the data path.
    pub const ALL: [Self; 5] =
        [Self::NoResets, Self::WrongSource, Self::TwoWinners, Self::WrongResets, Self::WrongByte];
    /// Those of the memory, which only long runs can detect.
    pub const OF_MEMORY: [Self; 4] =
        [Self::RanksBackwards, Self::ForgetsCopies, Self::ExploresAlways, Self::LearnsNothing];

    /// Returns a report as the memory gets it, if it does.
    pub(super) fn report(self, mut report: Report) -> Option<Report> {
        /// Longer than any time to an answer.
        const LONG: Ticks = Ticks::from_secs(4);
        match (self, &mut report.event) {
            (Self::RanksBackwards, Event::Answered { is_origin: false, after, .. }) => {
                *after = after.map(|after| LONG.since(after));
            }
            (Self::ForgetsCopies, Event::Asked { sites, .. }) => *sites = 0,
            (Self::LearnsNothing, _) => return None,
            _ => {}
        }
        Some(report)
    }
}

/// Applies the defect to the output of a burst.
pub fn spoil(how: Mutant, from: Side, came: &[Frame], verdicts: &[Verdict], leaving: &mut Leaving) {
    if from == Side::Inside {
        return;
    }
    let [onward, resets] = leaving;
    match how {
        Mutant::NoResets => resets.clear(),
        Mutant::WrongResets => resets.iter_mut().for_each(|frame| {
            change(frame, |tcp| tcp.set_seq_number(tcp.seq_number() + 100_000));
        }),
        Mutant::TwoWinners => {
            let losers = verdicts.iter().zip(came).filter(|(v, _)| **v == Verdict::LoserReset);
            for (reset, (_, answer)) in resets.iter_mut().zip(losers) {
                let Some(answer) = segment::read(answer) else { continue };
                change(reset, |tcp| {
                    tcp.set_rst(false);
                    tcp.set_ack(true);
                    tcp.set_ack_number(TcpSeqNumber(answer.sequence.wrapping_add(1) as i32));
                    tcp.set_window_len(1_000);
                });
            }
        }
        Mutant::WrongSource => onward.iter_mut().zip(kept(verdicts)).for_each(|(frame, v)| {
            if v == Verdict::FromReplica {
                change(frame, |tcp| tcp.set_src_port(tcp.src_port() ^ 1));
            }
        }),
        Mutant::WrongByte => onward.iter_mut().zip(kept(verdicts)).for_each(|(frame, v)| {
            if v == Verdict::FromReplica {
                change(frame, |tcp| {
                    if let Some(byte) = tcp.payload_mut().last_mut() {
                        *byte ^= 1;
                    }
                });
            }
        }),
        Mutant::RanksBackwards
        | Mutant::ForgetsCopies
        | Mutant::ExploresAlways
        | Mutant::LearnsNothing => {}
    }
}

/// Returns the verdicts of forwarded packets, in order.
fn kept(verdicts: &[Verdict]) -> impl Iterator<Item = Verdict> {
    let onward = |verdict: &Verdict| verdict.fate() == pipeline::verdict::Fate::Forwarded;
    verdicts.iter().copied().filter(onward)
}

/// Changes the plain TCP segment in a frame and updates its checksum.
fn change(frame: &mut [u8], mut how: impl FnMut(&mut TcpPacket<&mut [u8]>)) {
    let Ok(mut frame) = EthernetFrame::new_checked(frame) else { return };
    let mut within = |ends: (IpAddress, IpAddress), bytes: &mut [u8]| {
        let Ok(mut tcp) = TcpPacket::new_checked(bytes) else { return };
        how(&mut tcp);
        tcp.fill_checksum(&ends.0, &ends.1);
    };
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let Ok(mut packet) = Ipv4Packet::new_checked(frame.payload_mut()) else { return };
            if packet.next_header() == IpProtocol::Tcp {
                let ends = (packet.src_addr().into(), packet.dst_addr().into());
                within(ends, packet.payload_mut());
            }
        }
        EthernetProtocol::Ipv6 => {
            let Ok(mut packet) = Ipv6Packet::new_checked(frame.payload_mut()) else { return };
            if packet.next_header() == IpProtocol::Tcp {
                let ends = (packet.src_addr().into(), packet.dst_addr().into());
                within(ends, packet.payload_mut());
            }
        }
        _ => {}
    }
}
