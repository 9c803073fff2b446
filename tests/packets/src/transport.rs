//! TCP and UDP.

use std::net::IpAddr;

use super::checksum::{self, spoiled};
use super::tag::{Signature, Signed};

/// TCP control bits and the names that scenarios use, in the order in which they are written.
pub const FLAGS: [(&str, u8); 8] = [
    ("SYN", 0x02),
    ("FIN", 0x01),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ACK", 0x10),
    ("URG", 0x20),
    ("ECE", 0x40),
    ("CWR", 0x80),
];

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Option area.
    pub options: Vec<u8>,
    /// The tag in the option area to be signed, for the addresses of the packet.
    pub signature: Option<Signature>,
    /// Data.
    pub data: Vec<u8>,
    /// Whether the checksum is wrong.
    pub bad_checksum: bool,
    /// Data offset in words, where it is wrong.
    pub wrong_offset: Option<u8>,
}

impl Tcp {
    /// Returns whether a strict decoder accepts the options: lengths fit, and only zeros follow
    /// End-of-List.
    fn has_sound_options(&self) -> bool {
        let mut rest = self.options.as_slice();
        while let Some(&kind) = rest.first() {
            let length = match (kind, rest.get(1)) {
                (0, _) => return rest.iter().all(|&byte| byte == 0),
                (1, _) => 1,
                (_, Some(&length)) if length >= 2 => usize::from(length),
                _ => return false,
            };
            match rest.get(length..) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }

    pub(super) fn is_sound(&self) -> bool {
        !self.bad_checksum && self.wrong_offset.is_none() && self.has_sound_options()
    }

    /// Returns the option area, with its tag signed.
    pub fn option_area(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let mut area = self.options.clone();
        if let Some(signature) = &self.signature {
            let ports = (self.source, self.destination);
            signature.write(&mut area, Signed { ends, ports, seq: self.seq });
        }
        area
    }

    pub(super) fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let words = 5 + self.options.len() / 4;
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([self.wrong_offset.unwrap_or(words as u8) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(self.option_area(ends));
        bytes.extend(&self.data);
        let sum = spoiled(checksum::transport(ends, 6, &bytes), self.bad_checksum);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// The checksum field of a UDP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sum {
    /// The usual value: the checksum, but zero in the outer header of a tunnel over IPv4.
    #[default]
    Usual,
    /// The checksum.
    Right,
    /// A wrong one.
    Wrong,
    /// Zero: no checksum.
    Zero,
}

/// A UDP datagram, or the outer header of a tunnel over UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Checksum.
    pub sum: Sum,
    /// Length, where it is wrong.
    pub wrong_length: Option<u16>,
    /// Data.
    pub data: Vec<u8>,
}

impl Udp {
    pub(super) fn bytes(&self, ends: (IpAddr, IpAddr), data: &[u8], usual: Sum) -> Vec<u8> {
        let length = self.wrong_length.unwrap_or(8 + data.len() as u16);
        let mut bytes = Vec::new();
        for word in [self.source, self.destination, length, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(data);
        let sum = if self.sum == Sum::Usual { usual } else { self.sum };
        let right = match checksum::transport(ends, 17, &bytes) {
            // Zero would mean that there is no checksum.
            0 => 0xffff,
            sum => sum,
        };
        let sum = if sum == Sum::Zero { 0 } else { spoiled(right, sum == Sum::Wrong) };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}
