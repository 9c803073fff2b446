//! The one-line notation of frames.
//!
//! ```text
//! C > V SYN seq=1000 opts=linux              TCP over IPv4
//! V > R [ C > V SYN seq=1000 opts=linux,tag ]   IPv4 in IPv4
//! C > V udp data=8     C > V icmp=3/4 word=1400 [ C > V ACK ]    C > V proto=47 data=20
//! arp request web/R > nobody/V               ARP, sender > target
//! ether=88cc data=x0102                      another EtherType
//! raw 01020304                               a frame given byte by byte
//! same    same dst=R opts=linux    inner dst=R    what came in, changed so
//! ```
//! `same` and `inner` (of a tunnelled packet) stand for what came in, and are for what leaves.
//!
//! | attribute | of | default |
//! |---|---|---|
//! | `to from vlan pad cut patch` | the frame | MAC addresses by direction, nothing else |
//! | `ttl tos id nodf mf frag ipopts badip ipver ihl iplen` | the IP header | 64, 0, 0, DF set |
//! | `seq ack win urg opts data badtcp doff` | the TCP segment | 0, window 64240, no options |
//! | `src dst` | with `same` and `inner`: another endpoint | |

use super::names::Names;
use super::packet::{Arp, Body, FLAGS, Frame, Ip, Payload, Tcp};
use super::{hex, options};

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
            word if word.starts_with("ether=") => {
                let kind = u16::from_str_radix(&self.next()?[6..], 16);
                frame.body = Body::Other(kind.map_err(|e| e.to_string())?, Vec::new());
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
            _ => {
                let ip = self.ip(Some(&mut frame))?;
                frame.body = Body::Ip(ip);
            }
        }
        while let Some(word) = self.peek() {
            self.at += 1;
            self.attribute(&mut frame, word)?;
        }
        Ok(frame)
    }

    fn input(&self) -> Result<&'a Frame, String> {
        self.scope.input.ok_or("nothing came in that this could be".to_owned())
    }

    fn attribute(&self, frame: &mut Frame, word: &str) -> Result<(), String> {
        if self.set_frame(frame, word)? {
            return Ok(());
        }
        let done = match &mut frame.body {
            Body::Ip(ip) => self.set_ip(ip, word)?,
            Body::Other(_, data) => match word.strip_prefix("data=") {
                Some(value) => {
                    *data = data_bytes(value)?;
                    true
                }
                None => false,
            },
            _ => false,
        };
        if done { Ok(()) } else { Err(format!("{word} is not known here")) }
    }

    fn arp(&mut self) -> Result<Arp, String> {
        self.expect("arp")?;
        let operation = match self.next()? {
            "request" => 1,
            "reply" => 2,
            other => other.parse().map_err(|_| format!("{other} is no ARP operation"))?,
        };
        let sender = self.arp_party()?;
        self.expect(">")?;
        Ok(Arp { operation, sender, target: self.arp_party()? })
    }

    fn arp_party(&mut self) -> Result<(super::packet::Mac, std::net::Ipv4Addr), String> {
        let word = self.next()?;
        let (mac, address) = word.split_once('/').ok_or(format!("{word} is not MAC/address"))?;
        Ok((self.scope.names.mac(mac)?, self.scope.names.endpoint(address)?.0))
    }

    /// An IP packet, up to the end or a closing bracket. The outermost one's attributes may be
    /// the frame's.
    fn ip(&mut self, mut frame: Option<&mut Frame>) -> Result<Ip, String> {
        let (mut ip, is_new) = match self.peek() {
            Some("same") => (ip_of(self.input()?)?.clone(), false),
            Some("inner") => (inner(self.input()?)?.clone(), false),
            _ => (self.addresses()?, true),
        };
        self.at += usize::from(!is_new);
        while let Some(word) = self.peek().filter(|word| *word != "]") {
            if word == "[" {
                self.at += 1;
                let within = Box::new(self.ip(None)?);
                self.expect("]")?;
                match &mut ip.payload {
                    Payload::Icmp(.., quoted, _) => *quoted = Some(within),
                    payload => *payload = Payload::Ip(within),
                }
                continue;
            }
            self.at += 1;
            let of_frame = match &mut frame {
                Some(frame) => self.set_frame(frame, word)?,
                None => false,
            };
            if !of_frame && !self.set_ip(&mut ip, word)? {
                return Err(format!("{word} is not known here"));
            }
        }
        Ok(ip)
    }

    fn addresses(&mut self) -> Result<Ip, String> {
        let source = self.scope.names.endpoint(self.next()?)?;
        self.expect(">")?;
        let destination = self.scope.names.endpoint(self.next()?)?;
        let tcp =
            Tcp { source: source.1, destination: destination.1, window: WINDOW, ..Tcp::default() };
        Ok(Ip::new(source.0, destination.0, Payload::Tcp(tcp)))
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
                    Some((tpid, tci)) => {
                        let tpid = u16::from_str_radix(tpid, 16).map_err(|e| e.to_string())?;
                        Ok::<_, String>((tpid, number(tci)?))
                    }
                    None => Ok((0x8100, number(text)?)),
                };
                frame.vlans = value.split(',').map(tag).collect::<Result<_, _>>()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_ip(&self, ip: &mut Ip, word: &str) -> Result<bool, String> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let ports = match &ip.payload {
            Payload::Tcp(tcp) => (tcp.source, tcp.destination),
            _ => (0, 0),
        };
        match key {
            "ttl" => ip.ttl = number(value)?,
            "tos" => ip.tos = hex(value)?.first().copied().unwrap_or(0),
            "id" => ip.id = number(value)?,
            "nodf" => ip.df = false,
            "mf" => (ip.mf, ip.df) = (true, false),
            "frag" => (ip.offset, ip.df) = (number(value)?, false),
            "ipopts" => ip.options = hex(value)?,
            "badip" => ip.bad_checksum = true,
            "ipver" => ip.wrong.0 = Some(number(value)?),
            "ihl" => ip.wrong.1 = Some(number(value)?),
            "iplen" => ip.wrong.2 = Some(number(value)?),
            "src" | "dst" => {
                let (address, port) = self.scope.names.endpoint(value)?;
                let is_source = key == "src";
                *(if is_source { &mut ip.source } else { &mut ip.destination }) = address;
                if let Payload::Tcp(tcp) = &mut ip.payload {
                    *(if is_source { &mut tcp.source } else { &mut tcp.destination }) = port;
                }
            }
            "udp" => ip.payload = Payload::Udp(ports.0, ports.1, Vec::new()),
            "proto" => ip.payload = Payload::Other(number(value)?, Vec::new()),
            "icmp" => {
                let (kind, code) = value.split_once('/').ok_or(format!("{word}: no code"))?;
                ip.payload = Payload::Icmp(number(kind)?, number(code)?, 0, None, None);
            }
            _ => return set_payload(&mut ip.payload, word, key, value),
        }
        Ok(true)
    }
}

fn set_payload(payload: &mut Payload, word: &str, key: &str, value: &str) -> Result<bool, String> {
    match payload {
        Payload::Tcp(tcp) => return set_tcp(tcp, word, key, value),
        Payload::Udp(.., data) | Payload::Other(_, data) if key == "data" => {
            *data = data_bytes(value)?;
        }
        Payload::Icmp(_, _, second, _, _) if key == "word" => *second = number(value)?,
        Payload::Icmp(.., cut) if key == "quote" => *cut = Some(number(value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn set_tcp(tcp: &mut Tcp, word: &str, key: &str, value: &str) -> Result<bool, String> {
    match key {
        "seq" => tcp.seq = number(value)?,
        "ack" => tcp.ack = number(value)?,
        "win" => tcp.window = number(value)?,
        "urg" => tcp.urgent = number(value)?,
        "opts" => tcp.options = options::parse(value)?,
        "data" => tcp.data = data_bytes(value)?,
        "badtcp" => tcp.bad_checksum = true,
        "doff" => tcp.wrong_offset = Some(number(value)?),
        "TCP" => {}
        _ => match FLAGS.iter().find(|(name, _)| *name == word) {
            Some((_, bit)) => tcp.flags |= bit,
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn ip_of(frame: &Frame) -> Result<&Ip, String> {
    match &frame.body {
        Body::Ip(ip) => Ok(ip),
        _ => Err("what came in is no IP packet".to_owned()),
    }
}

fn inner(frame: &Frame) -> Result<&Ip, String> {
    match &ip_of(frame)?.payload {
        Payload::Ip(inner) => Ok(inner),
        _ => Err("what came in is no tunnelled packet".to_owned()),
    }
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
