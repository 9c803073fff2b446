//! Idle workers: a worker without packets polls for a while, then sleeps, so that other programs
//! can use the CPU.
//!
//! The cost of a sleep is mostly setting a timer and waking up: 21 us of CPU time in the virtual
//! machine this was measured on, however long the sleep. A worker therefore sleeps by timer at most
//! about once in 90 us, which is just under a quarter of a core there, and no packet waits longer
//! than 100 us. Where the kernel can signal a packet, the worker blocks on that instead; this costs
//! next to nothing and ends with the packet.
//!
//! A NIC behind VFIO signals by an interrupt, which is enabled before the worker blocks and disabled when
//! it goes on. A packet that arrives between the last poll and the enabling may cause none, so the
//! queues are polled once in between. Not every driver that offers interrupts makes them come; one that
//! does not is found out. One feature of NICs is not used: a CPU that waits for a write to
//! the descriptor ring (`rte_power_monitor`: umwait, tpause). It keeps the core from other programs as
//! polling does, and only some CPUs have it.

use std::time::Duration;

use crate::datapath::clock::Clock;
use crate::dpdk::{RxEvent, cycles};

/// The time that a worker polls after the last packet: about as long as falling asleep and waking
/// up take, so that polling at most doubles the cost of sleeping at once.
const SPIN: Duration = Duration::from_micros(20);
/// The longest sleep by timer, not counting the time to wake up.
const SLEEP: Duration = Duration::from_micros(70);
/// The longest wait for an rx event; then periodic work or the end of the process is due.
const WAIT: Duration = Duration::from_millis(1);
/// The number of rx events without a packet after which a worker sleeps by timer until the next packet.
/// One can be late: the interrupt of a packet that was polled before it came.
const FALSE_ALARMS: u8 = 3;
/// The number of packets in a row that no event has signalled although a worker waited for one, after which
/// the port is taken to signal nothing. A single packet can slip in between the end of a wait and the
/// poll.
const UNSIGNALLED: u8 = 8;
/// The kernel's default timer slack is 50 us, which would be added to every sleep.
const TIMER_SLACK_NS: u64 = 1;

/// The behaviour of a worker when there is nothing to do.
#[derive(Debug)]
pub enum Idle {
    /// Polls without a pause, on a core that it does not share.
    Busy,
    /// Polls for a while, then sleeps: until one of these events if there are any, or by timer.
    Adaptive(Vec<RxEvent>),
}

/// The pause after a poll that returned no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Poll again at once.
    Spin,
    /// Sleep for this time.
    Sleep(Duration),
    /// Sleep until an rx event, at most for this time.
    WaitForEvent(Duration),
}

/// Decides what to do when no packet has come for `quiet`, with or without rx events to wait for.
pub fn pause(quiet: Duration, has_events: bool) -> Pause {
    if quiet < SPIN {
        Pause::Spin
    } else if has_events {
        Pause::WaitForEvent(WAIT)
    } else {
        // A packet waits for a fraction of the idle period that it ends, never for a multiple.
        Pause::Sleep((quiet / 2).min(SLEEP))
    }
}

/// Carries out the pauses of one worker between its polls.
#[derive(Debug)]
pub struct Idler {
    idle: Idle,
    clock: Clock,
    /// The time of the first poll that returned nothing; `None` while packets arrive.
    since: Option<u64>,
    /// Events since the last packet. If the poll after an event returns nothing, it was a false alarm:
    /// an error, no buffer to receive into, or a late interrupt.
    alarms: u8,
    /// Whether the events are armed.
    armed: bool,
    /// Whether the last wait for them ended by its time.
    timed_out: bool,
    /// Packets in a row that followed such a wait.
    unsignalled: u8,
}

impl Idler {
    /// Creates the idler of the calling thread, whose timer slack it lowers.
    pub fn new(idle: Idle, clock: Clock) -> Self {
        if matches!(idle, Idle::Adaptive(_)) {
            // If this is refused, each sleep is 50 us longer; nothing else changes.
            let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
        }
        Self { idle, clock, since: None, alarms: 0, armed: false, timed_out: false, unsignalled: 0 }
    }

    /// Records that a poll returned packets.
    #[inline]
    pub fn busy(&mut self) {
        self.since = None;
        if self.armed {
            self.received_armed();
        }
    }

    /// Records that a poll returned packets while the events were armed, so that none has been signalled.
    /// A port that signals nothing is waited for by timer from then on.
    #[cold]
    fn received_armed(&mut self) {
        self.disarm();
        self.unsignalled += u8::from(std::mem::take(&mut self.timed_out));
        if self.unsignalled >= UNSIGNALLED {
            self.idle = Idle::Adaptive(Vec::new());
        }
    }

    /// Ends the signals of the events.
    #[cold]
    fn disarm(&mut self) {
        if let Idle::Adaptive(events) = &self.idle {
            events.iter().for_each(RxEvent::disarm);
        }
        self.armed = false;
    }

    /// Pauses after a poll that returned nothing.
    #[inline]
    pub fn pause(&mut self) {
        let Idle::Adaptive(events) = &self.idle else { return std::hint::spin_loop() };
        let now = cycles();
        let Some(since) = self.since else {
            (self.since, self.alarms) = (Some(now), 0);
            return;
        };
        let quiet = self.clock.at(now).since(self.clock.at(since));
        let may_wait = !events.is_empty() && self.alarms < FALSE_ALARMS;
        match pause(Duration::from_nanos(quiet.0), may_wait) {
            Pause::Spin => std::hint::spin_loop(),
            Pause::Sleep(time) => std::thread::sleep(time),
            Pause::WaitForEvent(_) if !self.armed => {
                events.iter().for_each(RxEvent::arm);
                self.armed = true;
            }
            Pause::WaitForEvent(time) => {
                self.timed_out = !RxEvent::wait_any(events, time);
                if !self.timed_out {
                    (self.alarms, self.unsignalled) = (self.alarms + 1, 0);
                    self.disarm();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn it_spins_first_and_never_sleeps_longer_than_half_the_idle_time() {
        for events in [false, true] {
            assert_eq!(pause(Duration::ZERO, events), Pause::Spin);
            assert_eq!(pause(19 * US, events), Pause::Spin);
        }
        assert_eq!(pause(20 * US, false), Pause::Sleep(10 * US));
        assert_eq!(pause(100 * US, false), Pause::Sleep(50 * US));
        assert_eq!(pause(20 * US, true), Pause::WaitForEvent(WAIT));
    }

    /// With 21 us to wake up, as measured, and 10 us to forward the packet.
    #[test]
    fn no_packet_waits_as_long_as_100_us_for_a_timer() {
        for quiet in [US * 200, Duration::from_secs(1), Duration::from_secs(1_000_000)] {
            let Pause::Sleep(time) = pause(quiet, false) else { panic!("it does not sleep") };
            assert!(time + 31 * US <= 101 * US && time >= 63 * US, "{time:?}");
        }
    }

    /// An idler of one event, and the sockets that cause and end it.
    fn idler() -> (Idler, UnixStream, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let events = vec![RxEvent::level(here.try_clone().unwrap().into())];
        (Idler::new(Idle::Adaptive(events), Clock::new(cycles(), 1_000_000_000)), here, there)
    }

    fn waits(idler: &Idler) -> bool {
        matches!(&idler.idle, Idle::Adaptive(events) if !events.is_empty())
    }

    fn receive_unsignalled(idler: &mut Idler) {
        while !idler.timed_out {
            idler.pause();
        }
        assert!(idler.armed);
        idler.busy();
        assert!(!idler.armed);
    }

    #[test]
    fn a_port_that_signals_nothing_is_not_waited_for() {
        let (mut idler, _here, _there) = idler();
        for _ in 0..UNSIGNALLED {
            assert!(waits(&idler));
            receive_unsignalled(&mut idler);
        }
        assert!(!waits(&idler));
        (0..10).for_each(|_| idler.pause());
        assert!(!idler.armed);
    }

    #[test]
    fn one_signal_is_enough_for_trust() {
        let (mut idler, mut here, mut there) = idler();
        for _ in 0..3 {
            (1..UNSIGNALLED).for_each(|_| receive_unsignalled(&mut idler));
            there.write_all(b"!").unwrap();
            while idler.alarms == 0 {
                idler.pause();
            }
            here.read_exact(&mut [0]).unwrap();
            idler.busy();
            // It counts anew from the next pause on.
            idler.pause();
            assert_eq!((idler.alarms, idler.armed), (0, false));
            idler.busy();
        }
        assert!(waits(&idler));
    }

    #[test]
    fn false_alarms_end_the_waiting_until_the_next_packet() {
        let (mut idler, _here, mut there) = idler();
        there.write_all(b"!").unwrap();
        while idler.alarms < FALSE_ALARMS {
            idler.pause();
        }
        (0..10).for_each(|_| idler.pause());
        assert_eq!((idler.alarms, idler.armed), (FALSE_ALARMS, false));
        assert!(waits(&idler));
    }
}
