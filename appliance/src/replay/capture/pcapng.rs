//! The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, packets. Other blocks are
//! skipped.

use std::io::Read;
use std::time::Duration;

use super::bytes::{part, rest};
use super::{LINK_TYPE, Order, Record, check_length};

/// The type of a section header, the same in both byte orders, with which a file begins.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// The form of packets before [`ENHANCED_PACKET`].
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// The number that tells a section's byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The longest block that is read in bytes, as in libpcap.
const LONGEST: u32 = 16 << 20;
/// Bytes of a block outside its body.
const AROUND: u32 = 12;

const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// A pcapng file behind a section header.
pub(super) struct PcapNg {
    order: Order,
    interfaces: Vec<Interface>,
    /// The time of the packet before.
    last: Duration,
}

struct Interface {
    link: u32,
    snaplen: u32,
    /// Units of its timestamps per second.
    units: u64,
    /// What is to be added to its timestamps, in seconds.
    offset: i64,
}

impl PcapNg {
    /// Reads the first section's header.
    pub(super) fn new(input: &mut impl Read) -> Result<Self, String> {
        let mut file = Self { order: Order::Big, interfaces: Vec::new(), last: Duration::ZERO };
        match file.block(input) {
            Ok(Some((SECTION, _))) => Ok(file),
            Ok(_) => Err("not a pcap or pcapng file".to_owned()),
            Err(error) => Err(format!("not a whole pcap or pcapng file: {error}")),
        }
    }

    /// Reads the next packet.
    pub(super) fn next(&mut self, input: &mut impl Read) -> Result<Option<Record>, String> {
        while let Some((kind, body)) = self.block(input)? {
            let packet = match kind {
                SECTION => {
                    self.interfaces.clear();
                    continue;
                }
                INTERFACE => {
                    let interface = Interface::parse(self.order, &body);
                    self.interfaces.push(interface.ok_or("an interface block is too short")?);
                    continue;
                }
                ENHANCED_PACKET => self.packet(&body, self.order.u32(&body, 0)),
                PACKET => self.packet(&body, self.order.u16(&body, 0).map(u32::from)),
                SIMPLE_PACKET => self.simple_packet(&body),
                _ => continue,
            }?;
            self.last = packet.time;
            return Ok(Some(packet));
        }
        Ok(None)
    }

    /// Reads a block: its type and its body. A section header sets the byte order.
    fn block(&mut self, input: &mut impl Read) -> Result<Option<(u32, Vec<u8>)>, String> {
        let what = "a block";
        let Some(head) = part(input, 8, what)? else { return Ok(None) };
        let mut front = Vec::new();
        if head.starts_with(&MAGIC) {
            front = rest(input, 4, what)?;
            self.order = match (Order::Big.u32(&front, 0), Order::Little.u32(&front, 0)) {
                (Some(BYTE_ORDER), _) => Order::Big,
                (_, Some(BYTE_ORDER)) => Order::Little,
                _ => return Err("a section without a byte order".to_owned()),
            };
        }
        let word = |at| self.order.u32(&head, at).unwrap_or(0);
        let (kind, length) = (word(0), word(4));
        let read = front.len() as u32;
        if length % 4 != 0 || !(AROUND + read..=LONGEST).contains(&length) {
            return Err(format!("a block of {length} bytes"));
        }
        front.extend(rest(input, (length - AROUND - read) as usize, what)?);
        if self.order.u32(&rest(input, 4, what)?, 0) != Some(length) {
            return Err("a block with two lengths".to_owned());
        }
        if kind == SECTION && self.order.u16(&front, 4) != Some(1) {
            return Err("a section of another version of pcapng".to_owned());
        }
        Ok(Some((kind, front)))
    }

    /// Parses an enhanced packet block, or a packet block, which differs in its first word only.
    fn packet(&self, body: &[u8], interface: Option<u32>) -> Result<Record, String> {
        let short = "a packet block is too short";
        let word = |at| self.order.u32(body, at).ok_or(short);
        let interface = self.interface(interface.ok_or(short)? as usize)?;
        let count = u64::from(word(4)?) << 32 | u64::from(word(8)?);
        let (captured, wire_length) = (check_length(word(12)?)?, word(16)?);
        let bytes = body.get(20..20 + captured).ok_or(short)?.to_vec();
        Ok(Record { time: interface.time(count), link: interface.link, bytes, wire_length })
    }

    /// Parses a simple packet block, which has no time: it is given that of the packet before.
    fn simple_packet(&self, body: &[u8]) -> Result<Record, String> {
        let short = "a packet block is too short";
        let wire_length = self.order.u32(body, 0).ok_or(short)?;
        let interface = self.interface(0)?;
        let captured = match interface.snaplen {
            // No limit.
            0 => wire_length,
            limit => wire_length.min(limit),
        };
        let bytes = body.get(4..4 + check_length(captured)?).ok_or(short)?.to_vec();
        Ok(Record { time: self.last, link: interface.link, bytes, wire_length })
    }

    fn interface(&self, number: usize) -> Result<&Interface, String> {
        let interface = self.interfaces.get(number);
        interface.ok_or_else(|| format!("a packet of interface {number}, which is not described"))
    }
}

impl Interface {
    fn parse(order: Order, body: &[u8]) -> Option<Self> {
        let link = order.u16(body, 0)?;
        let mut interface = Self {
            link: u32::from(link) & LINK_TYPE,
            snaplen: order.u32(body, 4)?,
            units: 1_000_000,
            offset: 0,
        };
        let mut options = &body[8..];
        while let (Some(code @ 1..), Some(length)) = (order.u16(options, 0), order.u16(options, 2))
        {
            let length = usize::from(length);
            let Some(value) = options.get(4..4 + length) else { break };
            match (code, value) {
                (IF_TSRESOL, &[exponent]) => interface.units = units(exponent),
                (IF_TSOFFSET, _) => {
                    interface.offset = order.u64(value, 0).unwrap_or(0).cast_signed();
                }
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    /// Returns the time of a timestamp, no earlier than the epoch and no later than a count of
    /// nanoseconds can say, in the year 2554.
    fn time(&self, count: u64) -> Duration {
        let nanos = i128::from(count) * 1_000_000_000 / i128::from(self.units.max(1));
        let nanos = nanos + i128::from(self.offset) * 1_000_000_000;
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Returns the units per second that an `if_tsresol` means: a power of ten or two.
fn units(exponent: u8) -> u64 {
    match exponent & 0x80 {
        0 => 10u64.saturating_pow(exponent.into()),
        _ => 1u64.checked_shl((exponent & 0x7f).into()).unwrap_or(u64::MAX),
    }
}
