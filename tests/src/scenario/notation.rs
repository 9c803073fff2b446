//! The one-line notation of frames.
//!
//! ```text
//! C > V SYN seq=1000 opts=linux              TCP over IPv4
//! C6 > [2001:db8::1]:80 ACK flow=5 ext=hop,dst     TCP over IPv6
//! V > R [ C > V SYN opts=linux,tag ]         IP in IP, of either family
//! V6 > R gre [ C > V SYN ]     V > R6 gue sport=50000 [ C6 > V6 SYN ]
//! C > V udp data=8     C > V echo=7/1 data=16     C > V proto=47 data=20
//! R > C icmp=3/4 word=1400 quote=28 [ C > R gre [ C > V ACK ] ]     R6 > C6 icmp6=2/0 word=1400 [ .. ]
//! C6 > V6 data=3000 id=9 piece=1232+1232     the second fragment of what is in front
//! arp request web/R > nobody/V               ARP, sender > target
//! nd solicit web/R6 > V6     nd advert web/R6 > host/V6     nd advert web/R6 > all
//! ether=88cc data=x0102                      another EtherType
//! raw 01020304                               a frame given byte by byte
//! same    same dst=R opts=linux    inner dst=R    R > C [ same ]     what came in, changed so
//! ```
//! `same` and `inner` (of a tunnelled packet) stand for what came in, and are for what leaves.
//! `data=5` is five bytes that show when they are moved, `data=x0102` is these two.
//!
//! | attribute | of | default |
//! |---|---|---|
//! | `to from vlan pad cut patch` | the frame | MAC addresses by direction, nothing else |
//! | `ttl tos id mf frag piece ipver iplen` | the IP header | 64, 0 |
//! | `nodf ipopts badip ihl` | IPv4 | DF set |
//! | `flow ext` | IPv6, see below | 0, none |
//! | `seq ack win urg opts data badtcp doff` | the TCP segment | 0, window 64240, no options |
//! | `data badudp nosum udpsum udplen` | UDP | right checksum |
//! | `greflags greproto greopts` | GRE | what the inner packet asks for |
//! | `sport dport guever guectl guehlen gueproto gueflags gueopts` and UDP's | GUE | 49152, 6080; no checksum over IPv4 |
//! | `proto` | IP in IP, in front of the brackets: another protocol number | |
//! | `short data` | any tunnel, behind the brackets: so many bytes of the inner packet, bytes behind it | all, none |
//! | `word quote data badicmp` | ICMP: second word, so many bytes of what is quoted | 0, all |
//! | `target flags lla badicmp` | `nd`: flags `RSO` or `none`, a MAC address or `none` | SO; the sender's |
//! | `src dst` | another endpoint, for `same`, `inner` and `nd` | |
//!
//! `ext=hop,dst*3,route:1,ah,frag,60:x0004`: extension headers `hop dst route:SEGMENTS_LEFT ah
//! esp mobility hip shim6` or by number, with `:x` and the bytes from the second on. Any of `id
//! mf frag` gives an IPv6 packet a fragment header, behind the others unless `frag` is among
//! them; `frag=0` alone is an atomic fragment.

mod extensions;
mod ip;
mod payload;

pub use extensions::show as show_extensions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firstack_packets::{Arp, Body, Frame, Ip, Mac, Neighbour, Payload};

use super::hex;
use super::names::Names;

/// The window of segments that say nothing else.
pub const WINDOW: u16 = 64240;

/// What a notation may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Names of endpoints and MAC addresses.
    pub names: &'a Names,
    /// Destination and source MAC address of a frame that says nothing else.
    pub macs: (&'a str, &'a str),
    /// What came in, for `same` and `inner`.
    pub input: Option<&'a Frame>,
}

/// Reads a frame.
pub fn parse(text: &str, scope: Scope<'_>) -> Result<Frame, String> {
    let mut parser = Parser { words: text.split_whitespace().collect(), at: 0, scope };
    let frame = parser.frame()?;
    match parser.peek() {
        None => Ok(frame),
        Some(word) => Err(format!("{word} is not expected there")),
    }
}

/// Reads a packet as it stands in brackets.
pub fn parse_packet(text: &str, scope: Scope<'_>) -> Result<Ip, String> {
    Parser { words: text.split_whitespace().collect(), at: 0, scope }.packet()
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    scope: Scope<'a>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self) -> Result<&'a str, String> {
        self.at += 1;
        self.words.get(self.at - 1).copied().ok_or("something is missing at the end".to_owned())
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        let found = self.next()?;
        if found == word { Ok(()) } else { Err(format!("{found} instead of {word}")) }
    }

    fn frame(&mut self) -> Result<Frame, String> {
        let (to, from) = self.scope.macs;
        let mut frame = Frame {
            to: self.scope.names.mac(to)?,
            from: self.scope.names.mac(from)?,
            vlans: Vec::new(),
            body: Body::Raw(Vec::new()),
            padding: 0,
            cut: None,
            patches: Vec::new(),
        };
        match self.peek().unwrap_or_default() {
            "raw" => {
                self.at += 1;
                let mut bytes = Vec::new();
                while self.peek().is_some_and(|word| !word.contains('=')) {
                    bytes.extend(hex(self.next()?)?);
                }
                frame.body = Body::Raw(bytes);
            }
            "arp" => frame.body = Body::Arp(self.arp()?),
            "nd" => self.neighbour(&mut frame)?,
            word if word.starts_with("ether=") => {
                frame.body = Body::Other(hex16(&self.next()?[6..])?, Vec::new());
            }
            "same" => {
                self.at += 1;
                frame = self.input()?.clone();
            }
            "inner" => {
                self.at += 1;
                frame = self.input()?.clone();
                frame.body = Body::Ip(inner(&frame)?.clone());
                frame.padding = 0;
            }
            _ => frame.body = Body::Ip(self.addresses()?),
        }
        while let Some(word) = self.peek().filter(|word| *word != "]") {
            self.attribute(&mut frame, word)?;
        }
        Ok(frame)
    }

    fn input(&self) -> Result<&'a Frame, String> {
        self.scope.input.ok_or("nothing came in that this could be".to_owned())
    }

    fn attribute(&mut self, frame: &mut Frame, word: &str) -> Result<(), String> {
        if self.set_frame(frame, word)? {
            self.at += 1;
            return Ok(());
        }
        match &mut frame.body {
            Body::Ip(ip) => return self.attribute_of_packet(ip),
            Body::Other(_, data) => match word.strip_prefix("data=") {
                Some(value) => *data = data_bytes(value)?,
                None => return Err(unknown(word)),
            },
            _ => return Err(unknown(word)),
        }
        self.at += 1;
        Ok(())
    }

    fn arp(&mut self) -> Result<Arp, String> {
        self.expect("arp")?;
        let operation = match self.next()? {
            "request" => 1,
            "reply" => 2,
            other => other.parse().map_err(|_| format!("{other} is no ARP operation"))?,
        };
        let sender = self.arp_station()?;
        self.expect(">")?;
        Ok(Arp { operation, sender, target: self.arp_station()? })
    }

    fn arp_station(&mut self) -> Result<(Mac, Ipv4Addr), String> {
        let word = self.next()?;
        match self.station(word)? {
            (mac, IpAddr::V4(address)) => Ok((mac, address)),
            _ => Err(format!("{word} is not of IPv4")),
        }
    }

    /// `MAC/ADDRESS`.
    fn station(&self, word: &str) -> Result<(Mac, IpAddr), String> {
        let (mac, address) = word.split_once('/').ok_or(format!("{word} is not MAC/address"))?;
        Ok((self.scope.names.mac(mac)?, self.scope.names.endpoint(address)?.0))
    }

    /// A neighbour solicitation or advertisement. The frame goes from the sender's MAC address
    /// to the other's, or to that of the multicast group.
    fn neighbour(&mut self, frame: &mut Frame) -> Result<(), String> {
        self.expect("nd")?;
        let solicits = match self.next()? {
            "solicit" => true,
            "advert" => false,
            other => return Err(format!("nd {other}: neither solicit nor advert")),
        };
        let sender = self.next()?;
        let (mac, source) = self.station(sender)?;
        let source = v6(source)?;
        self.expect(">")?;
        let word = self.next()?;
        let (to, destination, target) = match word {
            "all" => (None, ALL_NODES, source),
            // Asks or tells one host.
            _ if word.contains('/') => {
                let (mac, address) = self.station(word)?;
                let address = v6(address)?;
                (Some(mac), address, if solicits { address } else { source })
            }
            _ if solicits => {
                let target = v6(self.scope.names.endpoint(word)?.0)?;
                (None, Neighbour::solicited_node(target), target)
            }
            _ => return Err(format!("{word} is neither MAC/address nor all")),
        };
        frame.to = to.unwrap_or_else(|| Neighbour::multicast_mac(destination));
        frame.from = mac;
        let neighbour = Neighbour {
            solicits,
            flags: match (solicits, to) {
                (true, _) => 0,
                (false, Some(_)) => 0x60,
                (false, None) => 0x20,
            },
            target,
            // RFC 4861, 4.3: not from the unspecified address.
            mac: (!source.is_unspecified()).then_some(mac),
            bad_checksum: false,
        };
        let ends = (source.into(), destination.into());
        let ip = Ip::new(ends.0, ends.1, Payload::Neighbour(neighbour));
        frame.body = Body::Ip(Ip { ttl: 255, ..ip });
        Ok(())
    }

    fn set_frame(&self, frame: &mut Frame, word: &str) -> Result<bool, String> {
        let Some((key, value)) = word.split_once('=') else { return Ok(false) };
        match key {
            "to" => frame.to = self.scope.names.mac(value)?,
            "from" => frame.from = self.scope.names.mac(value)?,
            "pad" => frame.padding = number(value)?,
            "cut" => frame.cut = Some(number(value)?),
            "patch" => {
                let (at, bytes) = value.split_once(':').ok_or(format!("{word}: no offset"))?;
                frame.patches.push((number(at)?, hex(bytes)?));
            }
            "vlan" if value == "none" => frame.vlans.clear(),
            "vlan" => {
                let tag = |text: &str| match text.split_once(':') {
                    Some((tpid, tci)) => Ok::<_, String>((hex16(tpid)?, number(tci)?)),
                    None => Ok((0x8100, number(text)?)),
                };
                frame.vlans = value.split(',').map(tag).collect::<Result<_, _>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// ff02::1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn unknown(word: &str) -> String {
    format!("{word} is not known here")
}

fn v6(address: IpAddr) -> Result<Ipv6Addr, String> {
    match address {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(format!("{address} is not of IPv6")),
    }
}

fn ip_of(frame: &Frame) -> Result<&Ip, String> {
    match &frame.body {
        Body::Ip(ip) => Ok(ip),
        _ => Err("what came in is no IP packet".to_owned()),
    }
}

/// What was in the tunnel.
pub(super) fn inner(frame: &Frame) -> Result<&Ip, String> {
    let packet = match &ip_of(frame)?.payload {
        Payload::Tunnel(tunnel) => tunnel.content.packet.as_deref(),
        _ => None,
    };
    packet.ok_or("what came in is no tunnelled packet".to_owned())
}

/// `data=5` stands for five bytes of [`pattern`], `data=x0102` for these.
fn data_bytes(value: &str) -> Result<Vec<u8>, String> {
    match value.strip_prefix('x') {
        Some(bytes) => hex(bytes),
        None => Ok(pattern(number(value)?)),
    }
}

/// Data that shows when it is moved.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number, or too big a one"))
}

fn hex16(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 16).map_err(|_| format!("{text} is no hexadecimal word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "C 10.0.0.1:4\nV 10.0.0.2:80\nC6 [2001:db8::1]:4\n\
                         V6 [2001:db8::a1:b2c3]:80\na 02:00:00:00:00:01\nb 02:00:00:00:00:02";

    fn bytes(text: &str) -> Result<Vec<u8>, String> {
        let names = Names::parse(NAMES).unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        parse(text, scope).map(|frame| frame.bytes())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "C > V6 SYN",
            "C > V SYN [ C > V",
            "C > V SYN ]",
            "C > V flow=3",
            "C6 > V6 badip",
            "C > V id=65536",
            "C > V piece=16+9",
            "C6 > V6 ext=frob",
            "C6 > V6 ext=dst:12",
            "C > V gre sport=9 [ C > V ]",
            "nd solicit a/C > V",
            "nd advert a/C6 > V6",
            "nd advert a/C6 > all flags=Q",
            "arp request a/C6 > b/V6",
            "same",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn neighbours_are_asked_where_they_listen() {
        let frame = bytes("nd solicit b/C6 > V6").unwrap();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xa1, 0xb2, 0xc3]);
        assert_eq!(frame[6..14], [2, 0, 0, 0, 0, 2, 0x86, 0xdd]);
        assert_eq!(frame[18..22], [0, 32, 58, 255]);
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xa1, 0xb2, 0xc3];
        assert_eq!(frame[38..54], group);
        assert_eq!((frame[54], &frame[78..]), (135, &[1, 1, 2, 0, 0, 0, 0, 2][..]));
        let frame = bytes("nd advert b/V6 > a/C6").unwrap();
        assert_eq!((frame[0], frame[54], frame[58], frame[78]), (2, 136, 0x60, 2));
    }

    #[test]
    fn headers_are_chained_and_tunnels_numbered() {
        let frame = bytes("C6 > V6 ext=hop,frag,dst:x000102030405ff mf id=258 ACK").unwrap();
        assert_eq!((frame[20], frame[54], frame[62], frame[70]), (0, 44, 60, 6));
        assert_eq!(frame[62..70], [60, 0, 0, 1, 0, 0, 1, 2]);
        let frame = bytes("C > V gue sport=50000 [ C6 > V6 ]").unwrap();
        assert_eq!(frame[34..46], [0xc3, 0x50, 0x17, 0xc0, 0, 72, 0, 0, 0, 41, 0, 0]);
        let frame = bytes("C6 > V6 gre [ C > V ]").unwrap();
        assert_eq!((frame[20], &frame[54..59]), (47, &[0, 0, 8, 0, 0x45][..]));
        for (text, number) in [("C > V [ C6 > V6 ]", 41), ("C > V [ C > V ]", 4)] {
            assert_eq!(bytes(text).unwrap()[23], number);
        }
    }
}
