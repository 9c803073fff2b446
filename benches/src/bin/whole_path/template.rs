//! Frames of many connections from one template: the fields that differ are written into a copy,
//! and the checksums are updated from the template's partial sums.

use firstack_packets::checksum::complement;
use pipeline::wire::ethernet;

/// Client endpoints: connection `n` has the address `FIRST + 256 * (n / PORTS)` and the port
/// `FIRST_PORT + n % PORTS`. No /24 has more than its share of a table.
const PORTS_LOG2: u32 = 8;
const FIRST_PORT: u32 = 16_384;

/// The first client address of open connections, 198.18.0.1.
pub const CLIENTS: u32 = 0xc612_0001;
/// The first client address without connections, 10.0.0.1.
pub const UNKNOWN_CLIENTS: u32 = 0x0a00_0001;

/// The client endpoint in templates. It adds nothing to a checksum.
pub const UNSPECIFIED: &str = "0.0.0.0:0";

/// Maximum length of a template.
const LONGEST: usize = 128;
/// The usual length: the minimum Ethernet frame, without FCS.
pub const SHORT: usize = 60;

/// Offset and first value of a number that changes with each round of races.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    at: usize,
    first: u32,
}

/// A frame, and the offsets of the client in it.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LONGEST],
    length: usize,
    first_client: u32,
    /// Offsets of the client's address, one for each IP header.
    addresses: [usize; 2],
    /// Offsets of the IP headers' checksums, and the sums of their other words.
    ip_sums: [(usize, u32); 2],
    /// Number of IP headers with the client's address.
    headers: usize,
    port: usize,
    /// The same for the TCP checksum. UDP has none.
    tcp_sum: Option<(usize, u32)>,
    number: Option<Number>,
}

/// The client's end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl Template {
    /// Creates a template from an IPv4 frame with [`UNSPECIFIED`] as the client in its innermost header.
    /// With `outer_client`, a tunnel's outer header has the client at the same end.
    pub fn new(frame: &[u8], client: Client, first_client: u32, outer_client: bool) -> Self {
        let mut bytes = [0; LONGEST];
        bytes[..frame.len()].copy_from_slice(frame);
        let length = frame.len().max(SHORT);
        let outer = ethernet::HEADER;
        let tunnelled = bytes[outer + 9] == 4;
        let inner = if tunnelled { outer + 20 } else { outer };
        let l4 = inner + 20;
        let place = |l3: usize| l3 + if client == Client::Source { 12 } else { 16 };
        let sum = |at: usize| (at, u32::from(!get_u16(&bytes, at)));
        // An outer header without the client needs no update: the inner one takes its slot.
        let outer = if tunnelled && outer_client { outer } else { inner };
        Self {
            length,
            first_client,
            addresses: [place(inner), place(outer)],
            ip_sums: [sum(inner + 10), sum(outer + 10)],
            headers: if outer == inner { 1 } else { 2 },
            port: l4 + if client == Client::Source { 0 } else { 2 },
            tcp_sum: (bytes[inner + 9] == 6).then(|| sum(l4 + 16)),
            number: None,
            bytes,
        }
    }

    /// Makes the sequence number change with each round.
    pub fn numbered_sequence(self) -> Self {
        self.numbered(4)
    }

    /// Makes the acknowledgement number change with each round.
    pub fn numbered_ack(self) -> Self {
        self.numbered(8)
    }

    fn numbered(mut self, offset: usize) -> Self {
        let tcp = self.tcp_sum.map_or(0, |(at, _)| at - 16);
        let at = tcp + offset;
        let first =
            u32::from(get_u16(&self.bytes, at)) << 16 | u32::from(get_u16(&self.bytes, at + 2));
        if let Some((_, sum)) = &mut self.tcp_sum {
            // Remove the number from the sum: it is added again for each frame.
            *sum += u32::from(!(first as u16)) + u32::from(!((first >> 16) as u16));
        }
        self.number = Some(Number { at, first });
        self
    }

    /// Returns the length of the frame.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Writes the frame of a connection. `frame` has the template's length.
    #[inline(always)]
    pub fn stamp(&self, frame: &mut [u8], connection: u32) {
        let address = self.first_client.wrapping_add((connection >> PORTS_LOG2) << 8);
        let port = FIRST_PORT + (connection & ((1 << PORTS_LOG2) - 1));
        self.stamp_as(frame, address, port);
    }

    #[inline(always)]
    fn stamp_as(&self, frame: &mut [u8], address: u32, port: u32) {
        if self.length == SHORT {
            frame[..SHORT].copy_from_slice(&self.bytes[..SHORT]);
        } else {
            frame.copy_from_slice(&self.bytes[..self.length]);
        }
        let added = (address >> 16) + (address & 0xffff);
        for header in 0..self.headers {
            put_u32(frame, self.addresses[header], address);
            let (at, sum) = self.ip_sums[header];
            put_u16(frame, at, complement(sum + added));
        }
        put_u16(frame, self.port, port as u16);
        if let Some((at, sum)) = self.tcp_sum {
            put_u16(frame, at, complement(sum + added + port));
        }
    }

    /// Writes a frame of a random client address. The port is derived from it.
    #[inline]
    pub fn stamp_anywhere(&self, frame: &mut [u8], random: u32) {
        // Avoid 198.0.0.0/8 (0xc6), which contains the clients of open connections.
        let address = if random >> 24 == 0xc6 { random ^ 0x8000_0000 } else { random };
        let port = 1024 + (random.wrapping_mul(0x9e37_79b1) >> 18);
        self.stamp_as(frame, address, port);
    }

    /// Writes the frame of a connection in a round.
    #[inline]
    pub fn stamp_in(&self, frame: &mut [u8], connection: u32, round: u32) {
        self.stamp(frame, connection);
        if let (Some(Number { at, first }), Some((sum_at, _))) = (self.number, self.tcp_sum) {
            let number = first.wrapping_add(round);
            put_u32(frame, at, number);
            let sum = u32::from(!get_u16(frame, sum_at)) + (number >> 16) + (number & 0xffff);
            put_u16(frame, sum_at, complement(sum));
        }
    }
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstack_packets::Segment;

    const SERVER: &str = "203.0.113.10:80";

    /// Returns the client endpoint of a connection, as text.
    fn client(first: u32, connection: u32) -> String {
        let address = std::net::Ipv4Addr::from_bits(first + ((connection >> PORTS_LOG2) << 8));
        format!("{address}:{}", FIRST_PORT + (connection & ((1 << PORTS_LOG2) - 1)))
    }

    fn assert_same(template: &Template, connection: u32, round: u32, expected: &[u8]) {
        let mut frame = vec![0xee; template.len()];
        template.stamp_in(&mut frame, connection, round);
        assert_eq!(&frame[..expected.len()], expected, "connection {connection}, round {round}");
    }

    #[test]
    fn is_what_would_have_been_built_for_the_connection() {
        for connection in [0, 1, 32_767, 32_768, 999_999, 7_999_999] {
            let client = client(CLIENTS, connection);
            let ip = client.split(':').next().unwrap();
            let from = |c: &str| Segment::ack(c, SERVER, 8, 6).payload(&[0; 6]);
            let to = |c: &str| Segment::ack(SERVER, c, 6, 8).payload(&[0; 6]).inbound();
            let template =
                Template::new(&from(UNSPECIFIED).frame(), Client::Source, CLIENTS, false);
            assert_eq!(template.len(), SHORT);
            assert_same(&template, connection, 0, &from(&client).frame());
            let template =
                Template::new(&to(UNSPECIFIED).frame(), Client::Destination, CLIENTS, false);
            assert_same(&template, connection, 0, &to(&client).frame());
            let tunnelled = |c: &str, ip: &str| to(c).tunnelled("198.51.100.10", ip);
            let frame = tunnelled(UNSPECIFIED, "0.0.0.0");
            let template = Template::new(&frame, Client::Destination, CLIENTS, true);
            assert_same(&template, connection, 0, &tunnelled(&client, ip));
            let copy = |c: &str| from(c).tunnelled("203.0.113.10", "198.51.100.10");
            let template = Template::new(&copy(UNSPECIFIED), Client::Source, CLIENTS, false);
            assert_same(&template, connection, 0, &copy(&client));
        }
    }

    #[test]
    fn numbers_change_by_the_round() {
        for round in [0, 1, 0xffff, 0x10000, 0xffff_fff0] {
            let (connection, first) = (70_000, 7u32);
            let syn = |c: &str, number| Segment::syn(c, SERVER, number);
            let answer = |c: &str, number| Segment::syn_ack(SERVER, c, 5, number);
            let number = first.wrapping_add(round);
            let client = client(CLIENTS, connection);
            let template =
                Template::new(&syn(UNSPECIFIED, first).frame(), Client::Source, CLIENTS, false);
            let frame = syn(&client, number).frame();
            assert_same(&template.numbered_sequence(), connection, round, &frame);
            let frame = answer(UNSPECIFIED, first).frame();
            let template = Template::new(&frame, Client::Destination, CLIENTS, false);
            let frame = answer(&client, number).frame();
            assert_same(&template.numbered_ack(), connection, round, &frame);
        }
    }
}
