//! ICMPv6 neighbour solicitation and advertisement (RFC 4861), what IPv6 has instead of ARP.

use std::net::Ipv6Addr;

use super::ethernet::Mac;
use super::{icmp, ipv6, put_u16};

/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bytes of the message in front of its options.
const FIXED: usize = 24;
const TARGET: usize = 8;
/// Bytes of an option with a MAC address in it, and its length field.
const OPTION: usize = 8;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Only a neighbour's packet has this hop limit: no router has forwarded it.
const HOP_LIMIT: u8 = 255;
/// Where an IPv6 header says what follows, and its hop limit.
const NEXT_HEADER: usize = 6;
const HOPS: usize = 7;

/// Which of the two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Who has this address?
    Solicitation,
    /// I do.
    Advertisement {
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// What was known before is to be replaced.
        overrides: bool,
    },
}

/// A message with its IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which one.
    pub what: What,
    /// Who sends it; unspecified when a node makes sure that nobody has its address yet.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// The address asked for, or answered for.
    pub target: Ipv6Addr,
    /// The MAC address of a solicitation's source, of an advertisement's target.
    pub mac: Option<Mac>,
}

impl Message {
    /// Reads a packet, IPv6 header first; `None` unless all of it is there and it passes the
    /// checks of RFC 4861, sections 7.1.1 and 7.1.2. No node sends these messages behind
    /// extension headers, and fragments of them are forbidden (RFC 6980).
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
        (parsed.is_sound() && icmp::checksum_ok(message, pseudo)).then_some(parsed)
    }

    /// Whether the fields agree with each other.
    fn is_sound(&self) -> bool {
        let fits = match self.what {
            What::Solicitation if self.source.is_unspecified() => {
                self.destination == solicited_node(self.target) && self.mac.is_none()
            }
            What::Solicitation => true,
            What::Advertisement { solicited, .. } => {
                !(self.source.is_unspecified() || solicited && self.destination.is_multicast())
            }
        };
        fits && !self.target.is_multicast() && !self.source.is_multicast()
    }

    /// Length of the packet in bytes, IPv6 header included.
    pub fn length(&self) -> usize {
        ipv6::HEADER + FIXED + if self.mac.is_some() { OPTION } else { 0 }
    }

    /// Writes the packet into the first [`Message::length`] bytes.
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

/// The MAC address in the first option of this type; `None` outside when an option is no option,
/// and the message is to be ignored.
#[expect(clippy::option_option, reason = "malformed is another thing than absent")]
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

/// The multicast group of all that bear an address with these last 24 bits (RFC 4291).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const GROUP: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(GROUP | address.to_bits() & 0x00ff_ffff)
}

/// The MAC address of a multicast group (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The link-local address that belongs to a MAC address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEB: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0x12, 0x3456);
    const MAC: Mac = [2, 0, 0, 0xab, 0xcd, 0xef];

    fn solicitation() -> Message {
        Message {
            what: What::Solicitation,
            source: link_local(MAC),
            destination: solicited_node(WEB),
            target: WEB,
            mac: Some(MAC),
        }
    }

    fn emitted(message: Message) -> Vec<u8> {
        let mut ip = vec![0xee; message.length()];
        message.emit(&mut ip);
        ip
    }

    /// Changes a packet and puts its checksum right again.
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
    fn derives_addresses() {
        assert_eq!(solicited_node(WEB).to_string(), "ff02::1:ff12:3456");
        assert_eq!(multicast_mac(solicited_node(WEB)), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(link_local(MAC).to_string(), "fe80::ff:feab:cdef");
    }

    /// Of Linux 6.18, answering [`solicitation`]s for 2001:db8:3::10 of 02:00:00:00:00:99, and
    /// making sure of that neighbour some seconds later.
    const CAPTURED: [&str; 2] = [
        "6000000000203aff20010db8000300000000000000000010fe80000000000000000000fffe000099\
         880028f66000000020010db80003000000000000000000100201860b2924e3cb",
        "6000000000203afffe80000000000000840b29fffe24e3cbfe80000000000000000000fffe000099\
         870059f800000000fe80000000000000000000fffe0000990101860b2924e3cb",
    ];

    #[test]
    fn reads_and_writes_what_linux_sends() {
        let bytes = CAPTURED.map(|hex| {
            let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<u8>>()
        });
        let (appliance, server) = ([2, 0, 0, 0, 0, 0x99], [0x86, 0x0b, 0x29, 0x24, 0xe3, 0xcb]);
        let web = "2001:db8:3::10".parse().unwrap();
        let answer = Message {
            what: What::Advertisement { router: false, solicited: true, overrides: true },
            source: web,
            destination: link_local(appliance),
            target: web,
            mac: Some(server),
        };
        let question = Message {
            what: What::Solicitation,
            source: link_local(server),
            target: link_local(appliance),
            ..answer
        };
        for (bytes, message) in bytes.iter().zip([answer, question]) {
            assert_eq!(Message::parse(bytes), Some(message));
            assert_eq!(&emitted(message), bytes);
        }
    }

    #[test]
    fn refuses_what_rfc_4861_says_to_ignore() {
        let asked = solicitation();
        assert_eq!(changed(asked, |_| {}), Some(asked));
        assert_eq!(changed(asked, |ip| ip[7] = 254), None, "a router has forwarded it");
        assert_eq!(changed(asked, |ip| ip[6] = 17), None, "another protocol");
        assert_eq!(changed(asked, |ip| ip[40] = 134), None, "another type");
        assert_eq!(changed(asked, |ip| ip[41] = 1), None, "another code");
        assert_eq!(changed(asked, |ip| ip[48] = 0xff), None, "a multicast target");
        assert_eq!(changed(asked, |ip| ip.truncate(63)), None, "cut short");
        assert_eq!(changed(asked, |ip| ip[65] = 0), None, "an option without length");
        assert_eq!(changed(asked, |ip| ip[65] = 2), None, "an option beyond the end");
        assert_eq!(changed(asked, |ip| ip.push(1)), None, "half an option");
        let mut wrong = emitted(asked);
        wrong[42] ^= 1;
        assert_eq!(Message::parse(&wrong), None, "a wrong checksum");
        let probe = Message { source: Ipv6Addr::UNSPECIFIED, mac: None, ..asked };
        assert_eq!(changed(probe, |_| {}), Some(probe));
        let with = |message| changed(message, |_| {});
        assert_eq!(with(Message { mac: Some(MAC), ..probe }), None);
        assert_eq!(with(Message { destination: ALL_NODES, ..probe }), None);
        let what = What::Advertisement { router: false, solicited: true, overrides: true };
        assert_eq!(with(Message { what, ..asked }), None, "a multicast answers nobody");
    }

    #[test]
    fn takes_the_first_address_of_the_right_type() {
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
        fn what_is_emitted_parses_back(message in any_message()) {
            let expected = message.is_sound().then_some(message);
            prop_assert_eq!(Message::parse(&emitted(message)), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(
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
