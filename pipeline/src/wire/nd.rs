//! ICMPv6 neighbour solicitation and advertisement (RFC 4861), which replace ARP in IPv6.

use std::net::Ipv6Addr;

use super::ethernet::Mac;
use super::{icmp, ipv6, put_u16};

/// The multicast group of all nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Number of bytes of the message in front of its options.
const FIXED: usize = 24;
const TARGET: usize = 8;
/// Length in bytes of an option with a MAC address, and the unit of its length field.
const OPTION: usize = 8;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Hop limit of these messages. A packet that a router has forwarded has a lower one.
const HOP_LIMIT: u8 = 255;
/// Offset of the next header field in the IPv6 header.
const NEXT_HEADER: usize = 6;
/// Offset of the hop limit in the IPv6 header.
const HOPS: usize = 7;

/// The type of a message, with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request for the MAC address of the target.
    Solicitation,
    /// The MAC address of the target, with or without a request.
    Advertisement {
        /// Whether the sender is a router.
        router: bool,
        /// Whether it answers a solicitation.
        solicited: bool,
        /// Whether it replaces a MAC address that is already known.
        overrides: bool,
    },
}

/// A neighbour discovery message with its IPv6 header.
///
/// ```rust
/// use std::net::Ipv6Addr;
///
/// use pipeline::wire::nd::{self, Message, What};
///
/// let (mac, target) = ([2, 0, 0, 0, 0, 1], Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10));
/// let solicitation = Message {
///     what: What::Solicitation,
///     source: nd::link_local(mac),
///     destination: nd::solicited_node(target),
///     target,
///     mac: Some(mac),
/// };
/// let mut ip = vec![0; solicitation.length()];
/// solicitation.emit(&mut ip);
/// assert_eq!(Message::parse(&ip), Some(solicitation));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type and flags of the message.
    pub what: What,
    /// Sender. It is unspecified when a node checks whether its address is already in use.
    pub source: Ipv6Addr,
    /// Receiver.
    pub destination: Ipv6Addr,
    /// The address whose MAC address is requested or advertised.
    pub target: Ipv6Addr,
    /// The MAC address of a solicitation's source, or of an advertisement's target.
    pub mac: Option<Mac>,
}

impl Message {
    /// Parses a packet from the IPv6 header on.
    ///
    /// Returns `None` if it is truncated or fails the checks of RFC 4861, sections 7.1.1 and 7.1.2.
    /// Messages behind extension headers are not parsed: no node sends them, and fragments are
    /// forbidden (RFC 6980).
    pub fn parse(ip: &[u8]) -> Option<Self> {
        let length = ipv6::check(ip, ip.len()).ok()?;
        let ip = &ip[..length];
        let message = &ip[ipv6::HEADER..];
        if ip[NEXT_HEADER] != ipv6::ICMP || ip[HOPS] != HOP_LIMIT || message.len() < FIXED {
            return None;
        }
        let flags = message[4];
        let (what, option) = match message[..2] {
            [icmp::NEIGHBOUR_SOLICITATION, 0] => (What::Solicitation, SOURCE_OPTION),
            [icmp::NEIGHBOUR_ADVERTISEMENT, 0] => {
                let (router, solicited) = (flags & ROUTER != 0, flags & SOLICITED != 0);
                let overrides = flags & OVERRIDE != 0;
                (What::Advertisement { router, solicited, overrides }, TARGET_OPTION)
            }
            _ => return None,
        };
        let (source, destination) = (ipv6::source(ip), ipv6::destination(ip));
        let mut target = [0; 16];
        target.copy_from_slice(&message[TARGET..FIXED]);
        let target = Ipv6Addr::from(target);
        let mac = find_option(&message[FIXED..], option)?;
        let parsed = Self { what, source, destination, target, mac };
        let pseudo = ipv6::pseudo_header(source, destination, ipv6::ICMP, message.len() as u32);
        (parsed.is_consistent() && icmp::checksum_ok(message, pseudo)).then_some(parsed)
    }

    /// Returns whether the fields are consistent with each other.
    fn is_consistent(&self) -> bool {
        let addresses_ok = match self.what {
            What::Solicitation if self.source.is_unspecified() => {
                self.destination == solicited_node(self.target) && self.mac.is_none()
            }
            What::Solicitation => true,
            What::Advertisement { solicited, .. } => {
                !(self.source.is_unspecified() || solicited && self.destination.is_multicast())
            }
        };
        addresses_ok && !self.target.is_multicast() && !self.source.is_multicast()
    }

    /// Returns the length of the packet in bytes, IPv6 header included.
    pub fn length(&self) -> usize {
        ipv6::HEADER + FIXED + if self.mac.is_some() { OPTION } else { 0 }
    }

    /// Writes the packet into the first [`Message::length`] bytes.
    ///
    /// # Panics
    /// If `ip` is shorter than that.
    pub fn emit(&self, ip: &mut [u8]) {
        let ip = &mut ip[..self.length()];
        ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            length: ip.len(),
            hop_limit: HOP_LIMIT,
            protocol: ipv6::ICMP,
            source: self.source,
            destination: self.destination,
        }
        .emit(ip);
        let message = &mut ip[ipv6::HEADER..];
        message.fill(0);
        let (kind, flags, option) = match self.what {
            What::Solicitation => (icmp::NEIGHBOUR_SOLICITATION, 0, SOURCE_OPTION),
            What::Advertisement { router, solicited, overrides } => {
                let flag = |set, bit| if set { bit } else { 0 };
                let flags =
                    flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(overrides, OVERRIDE);
                (icmp::NEIGHBOUR_ADVERTISEMENT, flags, TARGET_OPTION)
            }
        };
        (message[0], message[4]) = (kind, flags);
        message[TARGET..FIXED].copy_from_slice(&self.target.octets());
        if let Some(mac) = self.mac {
            put_u16(message, FIXED, u16::from_be_bytes([option, 1]));
            message[FIXED + 2..].copy_from_slice(&mac);
        }
        let (from, to) = (self.source, self.destination);
        let pseudo = ipv6::pseudo_header(from, to, ipv6::ICMP, message.len() as u32);
        icmp::set_checksum(message, pseudo);
    }
}

/// Returns the MAC address in the first option of this type. The outer `None` means that an option
/// is malformed and the message must be ignored.
#[expect(clippy::option_option, reason = "malformed and absent are different results")]
fn find_option(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * OPTION;
        if length == 0 || length > options.len() {
            return None;
        }
        if kind == wanted && length == OPTION && found.is_none() {
            found = Some(std::array::from_fn(|i| options[2 + i]));
        }
        options = &options[length..];
    }
    options.is_empty().then_some(found)
}

/// Returns the solicited-node multicast group of an address, which every address with the same last
/// 24 bits shares (RFC 4291).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const GROUP: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(GROUP | address.to_bits() & 0x00ff_ffff)
}

/// Returns the MAC address of a multicast group (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Returns the link-local address that is derived from a MAC address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0x12, 0x3456);
    const MAC: Mac = [2, 0, 0, 0xab, 0xcd, 0xef];

    fn solicitation() -> Message {
        Message {
            what: What::Solicitation,
            source: link_local(MAC),
            destination: solicited_node(SERVER),
            target: SERVER,
            mac: Some(MAC),
        }
    }

    fn emitted(message: Message) -> Vec<u8> {
        let mut ip = vec![0xee; message.length()];
        message.emit(&mut ip);
        ip
    }

    /// Parses an emitted packet again after a change and with a correct checksum.
    fn changed(message: Message, change: impl FnOnce(&mut Vec<u8>)) -> Option<Message> {
        let mut ip = emitted(message);
        change(&mut ip);
        let length = ip.len();
        ipv6::set_length(&mut ip, length);
        let (from, to) = (ipv6::source(&ip), ipv6::destination(&ip));
        let message = &mut ip[ipv6::HEADER..];
        let pseudo = ipv6::pseudo_header(from, to, ipv6::ICMP, message.len() as u32);
        icmp::set_checksum(message, pseudo);
        Message::parse(&ip)
    }

    #[test]
    fn addresses_are_derived() {
        assert_eq!(solicited_node(SERVER).to_string(), "ff02::1:ff12:3456");
        assert_eq!(multicast_mac(solicited_node(SERVER)), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(link_local(MAC).to_string(), "fe80::ff:feab:cdef");
    }

    /// Packets of Linux 6.18: its answer to a [`solicitation`] for 2001:db8:3::10 by
    /// 02:00:00:00:00:99, and its check of that neighbour some seconds later.
    const CAPTURED: [&str; 2] = [
        "6000000000203aff20010db8000300000000000000000010fe80000000000000000000fffe000099\
         880028f66000000020010db80003000000000000000000100201860b2924e3cb",
        "6000000000203afffe80000000000000840b29fffe24e3cbfe80000000000000000000fffe000099\
         870059f800000000fe80000000000000000000fffe0000990101860b2924e3cb",
    ];

    #[test]
    fn captured_packets_parse_and_are_emitted() {
        let bytes = CAPTURED.map(|hex| {
            let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<u8>>()
        });
        let (appliance, server) = ([2, 0, 0, 0, 0, 0x99], [0x86, 0x0b, 0x29, 0x24, 0xe3, 0xcb]);
        let address = "2001:db8:3::10".parse().unwrap();
        let answer = Message {
            what: What::Advertisement { router: false, solicited: true, overrides: true },
            source: address,
            destination: link_local(appliance),
            target: address,
            mac: Some(server),
        };
        let check = Message {
            what: What::Solicitation,
            source: link_local(server),
            target: link_local(appliance),
            ..answer
        };
        for (bytes, message) in bytes.iter().zip([answer, check]) {
            assert_eq!(Message::parse(bytes), Some(message));
            assert_eq!(&emitted(message), bytes);
        }
    }

    #[test]
    fn messages_that_rfc_4861_ignores_do_not_parse() {
        let valid = solicitation();
        assert_eq!(changed(valid, |_| {}), Some(valid));
        assert_eq!(changed(valid, |ip| ip[7] = 254), None, "a router has forwarded it");
        assert_eq!(changed(valid, |ip| ip[6] = 17), None, "another protocol");
        assert_eq!(changed(valid, |ip| ip[40] = 134), None, "another type");
        assert_eq!(changed(valid, |ip| ip[41] = 1), None, "another code");
        assert_eq!(changed(valid, |ip| ip[48] = 0xff), None, "a multicast target");
        assert_eq!(changed(valid, |ip| ip.truncate(63)), None, "cut short");
        assert_eq!(changed(valid, |ip| ip[65] = 0), None, "an option without length");
        assert_eq!(changed(valid, |ip| ip[65] = 2), None, "an option beyond the end");
        assert_eq!(changed(valid, |ip| ip.push(1)), None, "half an option");
        let mut wrong = emitted(valid);
        wrong[42] ^= 1;
        assert_eq!(Message::parse(&wrong), None, "a wrong checksum");
        let probe = Message { source: Ipv6Addr::UNSPECIFIED, mac: None, ..valid };
        assert_eq!(changed(probe, |_| {}), Some(probe));
        let with = |message| changed(message, |_| {});
        assert_eq!(with(Message { mac: Some(MAC), ..probe }), None);
        assert_eq!(with(Message { destination: ALL_NODES, ..probe }), None);
        let what = What::Advertisement { router: false, solicited: true, overrides: true };
        assert_eq!(
            with(Message { what, ..valid }),
            None,
            "a solicited advertisement to a multicast group"
        );
    }

    #[test]
    fn the_first_option_of_the_right_type_counts() {
        let others = [&[14, 1, 9, 9, 9, 9, 9, 9, 2, 1, 8, 8, 8, 8, 8, 8][..], &[1, 2], &[7; 14]];
        let expected = Message { mac: Some([5; 6]), ..solicitation() };
        let found = changed(Message { mac: None, ..expected }, |ip| {
            others.iter().for_each(|option| ip.extend_from_slice(option));
            ip.extend([1, 1, 5, 5, 5, 5, 5, 5, 1, 1, 6, 6, 6, 6, 6, 6]);
        });
        assert_eq!(found, Some(expected));
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let advertisement = any::<[bool; 3]>().prop_map(|[router, solicited, overrides]| {
            What::Advertisement { router, solicited, overrides }
        });
        let what = prop_oneof![Just(What::Solicitation), advertisement];
        let address = || any::<[u8; 16]>().prop_map(Ipv6Addr::from);
        let mac = proptest::option::of(any::<Mac>());
        (what, address(), address(), address(), mac).prop_map(
            |(what, source, destination, target, mac)| Message {
                what,
                source,
                destination,
                target,
                mac,
            },
        )
    }

    proptest! {
        #[test]
        fn a_consistent_message_parses_back(message in any_message()) {
            let expected = message.is_consistent().then_some(message);
            prop_assert_eq!(Message::parse(&emitted(message)), expected);
        }

        #[test]
        fn no_input_causes_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            message in any_message(),
            at in 0usize..72,
            value in any::<u8>(),
        ) {
            Message::parse(&bytes);
            changed(message, |ip| ip.splice(64.., bytes).for_each(drop));
            let mut ip = emitted(message);
            let at = at % ip.len();
            ip[at] = value;
            Message::parse(&ip);
            Message::parse(&ip[..at]);
        }
    }
}
