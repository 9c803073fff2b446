//! One direction between two ports: what becomes of a packet, and when it arrives.
//!
//! Pure: time is an argument, chance comes from a seeded generator of this link.

use std::time::Duration;

use super::config::LinkConfig;

/// Rate that sizes the queue of a link without one: 10 Gbit/s, in bytes per second.
const UNLIMITED: f64 = 10e9 / 8.0;
/// A link without rate holds at least this much of time at `UNLIMITED`.
const LEAST_DELAY: Duration = Duration::from_millis(10);
/// A queue holds at least so many bytes, 64 full frames.
const LEAST_QUEUE: u64 = 64 * 1514;

/// What a link does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It arrives at that time.
    Arrives(Duration),
    /// It is lost by chance.
    Lost,
    /// The queue is full.
    QueueFull,
    /// It is bigger than this, the MTU.
    TooBig(u16),
}

/// One direction between two ports.
#[derive(Debug)]
pub struct Link {
    delay: Duration,
    jitter: Duration,
    reorder: bool,
    loss: f64,
    bytes_per_second: Option<f64>,
    queue_bytes: u64,
    mtu: Option<u16>,
    random: Generator,
    sent_until: Duration,
    last_arrival: Duration,
    under_way: u64,
}

impl Link {
    /// Creates a link, with its own random numbers from `seed`.
    #[must_use]
    pub fn new(config: &LinkConfig, seed: u64) -> Self {
        let delay = Duration::from_secs_f64(config.delay_ms / 1e3);
        let bytes_per_second = config.rate_mbit.map(|rate| rate * 1e6 / 8.0);
        let product = match bytes_per_second {
            Some(rate) => rate * delay.as_secs_f64(),
            None => UNLIMITED * delay.max(LEAST_DELAY).as_secs_f64(),
        };
        Self {
            delay,
            jitter: Duration::from_secs_f64(config.jitter_ms / 1e3),
            reorder: config.reorder,
            loss: config.loss,
            bytes_per_second,
            queue_bytes: config.queue_bytes.unwrap_or((product as u64).max(LEAST_QUEUE)),
            mtu: config.mtu,
            random: Generator::new(seed),
            sent_until: Duration::ZERO,
            last_arrival: Duration::ZERO,
            under_way: 0,
        }
    }

    /// Changes the delay, of packets that are taken from now on.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Takes a packet at `now`: `frame` bytes on the wire, `packet` bytes of IP.
    pub fn admit(&mut self, now: Duration, frame: usize, packet: usize) -> Admission {
        if let Some(mtu) = self.mtu.filter(|mtu| packet > usize::from(*mtu)) {
            return Admission::TooBig(mtu);
        }
        if self.loss > 0.0 && self.random.unit() < self.loss {
            return Admission::Lost;
        }
        let frame = frame as u64;
        if self.waiting(now) + frame > self.queue_bytes {
            return Admission::QueueFull;
        }
        let sent = match self.bytes_per_second {
            Some(rate) => {
                let start = self.sent_until.max(now);
                self.sent_until = start + Duration::from_secs_f64(frame as f64 / rate);
                self.sent_until
            }
            None => now,
        };
        self.under_way += frame;
        let mut arrival = sent + self.draw_delay();
        if !self.reorder {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        Admission::Arrives(arrival)
    }

    /// Tells that a packet of so many bytes has arrived and is no longer under way.
    pub fn arrived(&mut self, frame: usize) {
        self.under_way -= frame as u64;
    }

    /// Bytes that count against the queue: unsent ones, or without rate all under way.
    fn waiting(&self, now: Duration) -> u64 {
        match self.bytes_per_second {
            Some(rate) => (self.sent_until.saturating_sub(now).as_secs_f64() * rate) as u64,
            None => self.under_way,
        }
    }

    fn draw_delay(&mut self) -> Duration {
        if self.jitter.is_zero() {
            return self.delay;
        }
        let spread = self.jitter.mul_f64(2.0 * self.random.unit());
        (self.delay + spread).saturating_sub(self.jitter)
    }
}

/// A small seeded generator (SplitMix64): good enough for loss and jitter, and repeatable.
#[derive(Debug, Clone)]
pub struct Generator(u64);

impl Generator {
    /// Creates the generator of a seed; the same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a random number from 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrival(link: &mut Link, now: Duration, bytes: usize) -> Duration {
        match link.admit(now, bytes, bytes - 14) {
            Admission::Arrives(at) => at,
            other => panic!("expected an arrival, got {other:?}"),
        }
    }

    #[test]
    fn a_plain_link_delays_by_its_delay() {
        let mut link = Link::new(&LinkConfig::delay(40.0), 1);
        assert_eq!(arrival(&mut link, MS * 3, 1514), MS * 43);
        assert_eq!(arrival(&mut link, MS * 3, 60), MS * 43);
    }

    #[test]
    fn a_rate_spaces_packets_and_its_queue_is_rate_times_delay() {
        // 12 Mbit/s is 1500 bytes per millisecond; 100 ms of it is 150,000 bytes.
        let config = LinkConfig { rate_mbit: Some(12.0), ..LinkConfig::delay(100.0) };
        let mut link = Link::new(&config, 1);
        for i in 1..=100 {
            let at = arrival(&mut link, Duration::ZERO, 1500);
            assert!(at.abs_diff(MS * (100 + i)) < Duration::from_micros(1), "packet {i}: {at:?}");
        }
        assert_eq!(link.admit(Duration::ZERO, 1500, 1486), Admission::QueueFull);
        assert!(matches!(link.admit(MS * 2, 1500, 1486), Admission::Arrives(_)));
    }

    #[test]
    fn what_is_under_way_fills_the_queue_of_a_link_without_rate() {
        let config = LinkConfig { queue_bytes: Some(3000), ..LinkConfig::delay(10.0) };
        let mut link = Link::new(&config, 1);
        arrival(&mut link, Duration::ZERO, 1500);
        arrival(&mut link, Duration::ZERO, 1500);
        assert_eq!(link.admit(Duration::ZERO, 60, 46), Admission::QueueFull);
        link.arrived(1500);
        arrival(&mut link, MS * 11, 60);
    }

    #[test]
    fn loss_keeps_to_its_share_and_repeats_for_a_seed() {
        let config = LinkConfig { loss: 0.1, ..LinkConfig::default() };
        let losses = |seed| {
            let mut link = Link::new(&config, seed);
            let fates = (0..10_000).map(|_| {
                let fate = link.admit(Duration::ZERO, 60, 46);
                if fate != Admission::Lost {
                    link.arrived(60);
                }
                fate == Admission::Lost
            });
            fates.collect::<Vec<_>>()
        };
        let first = losses(42);
        let share = first.iter().filter(|lost| **lost).count();
        assert!((900..1100).contains(&share), "lost {share} of 10000");
        assert_eq!(first, losses(42));
        assert_ne!(first, losses(43));
    }

    #[test]
    fn loss_of_one_passes_nothing() {
        let config = LinkConfig { loss: 1.0, ..LinkConfig::default() };
        let mut link = Link::new(&config, 9);
        assert!((0..1000).all(|_| link.admit(MS, 60, 46) == Admission::Lost));
    }

    #[test]
    fn jitter_keeps_the_order_unless_asked() {
        let arrivals = |reorder| {
            let config = LinkConfig { jitter_ms: 5.0, reorder, ..LinkConfig::delay(20.0) };
            let mut link = Link::new(&config, 3);
            (0..200).map(|i| arrival(&mut link, MS * i, 60)).collect::<Vec<_>>()
        };
        let (kept, shuffled) = (arrivals(false), arrivals(true));
        assert!(kept.is_sorted());
        assert!(!shuffled.is_sorted());
        for (i, at) in (0..).zip(shuffled) {
            assert!(at >= MS * (i + 15) && at <= MS * (i + 25), "packet {i} arrived at {at:?}");
        }
    }

    #[test]
    fn a_big_packet_is_refused_with_the_mtu() {
        let mut link = Link::new(&LinkConfig { mtu: Some(1400), ..LinkConfig::default() }, 1);
        assert_eq!(link.admit(MS, 1415, 1401), Admission::TooBig(1400));
        assert_eq!(arrival(&mut link, MS, 1414), MS);
    }
}
