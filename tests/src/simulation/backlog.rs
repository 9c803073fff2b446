//! Behaviour of a listening server that smoltcp lacks: a SYN of an existing connection opens no
//! second one.

use smoltcp::socket::tcp::State;
use smoltcp::wire::{ETHERNET_HEADER_LEN, TcpControl};

use super::plan::{Nanos, SECOND};
use super::segment::{self, Segment};
use super::server::{Server, Slot};
use super::station::Frame;

/// The handling of a SYN.
pub(super) enum Judgement {
    /// smoltcp handles it.
    Take,
    /// smoltcp handles it, and the connection in this slot ends.
    TakeInstead(usize),
    /// Only this is sent, if anything.
    Answer(Option<Frame>),
}

/// Decides the handling of a SYN.
pub(super) fn judge(server: &mut Server, start: &Segment, now: Nanos) -> Judgement {
    let records = &server.records;
    let own = |slot: &Slot| {
        slot.talk.as_ref().is_some_and(|talk| records[talk.record].client == start.from)
    };
    let Some(at) = server.slots.iter().position(own) else { return Judgement::Take };
    let slot = &mut server.slots[at];
    let Some(talk) = &mut slot.talk else { return Judgement::Take };
    let same = records[talk.record].isn == start.sequence;
    let state = server.host.socket(slot.handle).state();
    match (state, &talk.last) {
        // RFC 1122, 4.2.2.13: a new connection may take the place of one in TIME-WAIT.
        (State::TimeWait | State::Closed | State::Listen, _) if !same => Judgement::TakeInstead(at),
        // The SYN/ACK may be lost: send it again.
        (State::SynReceived, Some((last, frame))) if same && last.syn => {
            Judgement::Answer(Some(frame.clone()))
        }
        // RFC 5961, 4: a challenge ACK, which a client with a new connection answers by a RST.
        (_, Some((last, frame))) if talk.challenged.is_none_or(|before| now >= before + SECOND) => {
            talk.challenged = Some(now);
            Judgement::Answer(Some(challenge(last, frame)))
        }
        _ => Judgement::Answer(None),
    }
}

/// Returns an empty ACK that follows this segment, with its frame's headers.
fn challenge(last: &Segment, frame: &[u8]) -> Frame {
    let next = last.sequence.wrapping_add(last.length);
    let header = &frame[..ETHERNET_HEADER_LEN];
    segment::bare(
        header,
        (last.from, last.to),
        TcpControl::None,
        (next, Some(last.acknowledgement)),
    )
}

/// Stores the last segment of every connection among the frames sent after the first `had`.
pub(super) fn remember(server: &mut Server, had: usize) {
    let Server { host, slots, records, .. } = server;
    for frame in &host.sending()[had..] {
        let Some(segment) = segment::read(frame).filter(|segment| !segment.rst) else { continue };
        let talks = slots.iter_mut().filter_map(|slot| slot.talk.as_mut());
        for talk in talks.filter(|talk| records[talk.record].client == segment.to) {
            let end = |s: &Segment| s.sequence.wrapping_add(s.length);
            let later = talk
                .last
                .as_ref()
                .is_none_or(|(before, _)| end(&segment).wrapping_sub(end(before)) as i32 >= 0);
            if later {
                let kept = if segment.syn { frame.len() } else { ETHERNET_HEADER_LEN };
                talk.last = Some((segment, frame[..kept].to_vec()));
            }
        }
    }
}
