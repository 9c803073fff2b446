//! The pcap format (draft-ietf-opsawg-pcap).

use std::io::Read;
use std::time::Duration;

use super::bytes::{part, rest};
use super::{LINK_TYPE, Order, Record, check_length};

const HEADER: usize = 24;
const RECORD: usize = 16;

/// Magic numbers, each with nanoseconds per unit of a time's fraction and the length of what stands
/// behind a record's header: microseconds, nanoseconds, and a form of old Linux kernels.
const MAGICS: [(u32, u32, usize); 3] =
    [(0xa1b2_c3d4, 1000, 0), (0xa1b2_3c4d, 1, 0), (0xa1b2_cd34, 1000, 8)];

/// A pcap file behind its header.
pub(super) struct Classic {
    order: Order,
    nanos: u32,
    extra: usize,
    /// The link type of all packets.
    pub(super) link: u32,
}

impl Classic {
    /// Reads the header.
    pub(super) fn new(input: &mut impl Read) -> Result<Self, String> {
        let none = || "not a pcap or pcapng file".to_owned();
        let broken = |error| format!("not a whole pcap or pcapng file: {error}");
        let magic = rest(input, 4, "the header").map_err(broken)?;
        let of = |order: Order| {
            let number = order.u32(&magic, 0)?;
            let &(_, nanos, extra) = MAGICS.iter().find(|(magic, ..)| *magic == number)?;
            Some((order, nanos, extra))
        };
        let known = of(Order::Big).or_else(|| of(Order::Little));
        let (order, nanos, extra) = known.ok_or_else(none)?;
        let header = rest(input, HEADER - 4, "the header").map_err(broken)?;
        if order.u16(&header, 0) != Some(2) {
            return Err(none());
        }
        let link = order.u32(&header, HEADER - 8).unwrap_or(0) & LINK_TYPE;
        Ok(Self { order, nanos, extra, link })
    }

    /// Reads the next packet.
    pub(super) fn next(&mut self, input: &mut impl Read) -> Result<Option<Record>, String> {
        let Some(header) = part(input, RECORD + self.extra, "a packet's header")? else {
            return Ok(None);
        };
        let word = |number: usize| self.order.u32(&header, number * 4).unwrap_or(0);
        let fraction = Duration::from_nanos(u64::from(word(1)) * u64::from(self.nanos));
        Ok(Some(Record {
            time: Duration::from_secs(word(0).into()) + fraction,
            link: self.link,
            bytes: rest(input, check_length(word(2))?, "a packet")?,
            wire_length: word(3),
        }))
    }
}
