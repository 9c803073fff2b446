//! TCP segments in Ethernet frames, parsed with smoltcp, independent of the pipeline.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, IpRepr,
    Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::station::Frame;

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Length in sequence numbers.
    pub length: u32,
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// RST.
    pub rst: bool,
    /// Whether it has an option that is not one of the usual.
    pub unusual_option: bool,
}

impl Segment {
    /// Returns whether it is a SYN.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        self.syn && !self.ack && !self.rst
    }
}

/// Returns the addresses of an IP packet in a frame, or `None` for other frames.
#[must_use]
pub fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            Some((packet.src_addr().into(), packet.dst_addr().into()))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            Some((packet.src_addr().into(), packet.dst_addr().into()))
        }
        _ => None,
    }
}

/// Parses the segment in a frame. Returns `None` without one.
#[must_use]
pub fn read(frame: &[u8]) -> Option<Segment> {
    let (from, to) = addresses(frame)?;
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            let tcp = packet.next_header() == IpProtocol::Tcp;
            tcp.then(|| segment(from, to, packet.payload())).flatten()
        }
        _ => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let tcp = packet.next_header() == IpProtocol::Tcp;
            tcp.then(|| segment(from, to, packet.payload())).flatten()
        }
    }
}

fn segment(from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<Segment> {
    let tcp = TcpPacket::new_checked(bytes).ok()?;
    Some(Segment {
        from: SocketAddr::new(from, tcp.src_port()),
        to: SocketAddr::new(to, tcp.dst_port()),
        sequence: tcp.seq_number().0 as u32,
        acknowledgement: tcp.ack_number().0 as u32,
        length: tcp.segment_len() as u32,
        syn: tcp.syn(),
        ack: tcp.ack(),
        rst: tcp.rst(),
        unusual_option: has_unusual_option(tcp.options()),
    })
}

/// Returns whether there is an option other than End-of-List, NOP, MSS, window scale, SACK and
/// timestamps.
fn has_unusual_option(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [] | [0, ..] => return false,
            [1, ..] => options = &options[1..],
            [2..=5 | 8, length, ..] => {
                options = options.get(usize::from(length).max(2)..).unwrap_or_default();
            }
            _ => return true,
        }
    }
}

/// Returns whether the TCP checksum of the segment in a frame is right.
#[must_use]
pub fn has_right_checksum(frame: &[u8]) -> bool {
    let Some(ends) = addresses(frame) else { return false };
    let (from, to) = (IpAddress::from(ends.0), IpAddress::from(ends.1));
    let Ok(frame) = EthernetFrame::new_checked(frame) else { return false };
    let right = |bytes: &[u8]| {
        TcpPacket::new_checked(bytes).is_ok_and(|tcp| tcp.verify_checksum(&from, &to))
    };
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            Ipv4Packet::new_checked(frame.payload()).is_ok_and(|packet| right(packet.payload()))
        }
        _ => Ipv6Packet::new_checked(frame.payload()).is_ok_and(|packet| right(packet.payload())),
    }
}

/// Returns a frame with this Ethernet header and a segment without options and data.
#[must_use]
pub fn bare(
    ethernet: &[u8],
    (from, to): (SocketAddr, SocketAddr),
    control: TcpControl,
    (sequence, acknowledgement): (u32, Option<u32>),
) -> Frame {
    let tcp = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: acknowledgement.map(|number| TcpSeqNumber(number as i32)),
        window_len: 1_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (from, to) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
    let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let sums = ChecksumCapabilities::default();
    let headers = ETHERNET_HEADER_LEN + ip.header_len();
    let mut frame = ethernet.to_vec();
    frame.resize(headers + tcp.buffer_len(), 0);
    ip.emit(&mut frame[ETHERNET_HEADER_LEN..], &sums);
    tcp.emit(&mut TcpPacket::new_unchecked(&mut frame[headers..]), &from, &to, &sums);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ends = |a: &str, b: &str| (a.parse().unwrap(), b.parse().unwrap());
        let cases = [
            (ends("198.18.1.10:40000", "203.0.113.10:80"), [0x08, 0x00]),
            (ends("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80"), [0x86, 0xdd]),
        ];
        for ((from, to), ethertype) in cases {
            let header = [&[2; 12][..], &ethertype].concat();
            let frame = bare(&header, (from, to), TcpControl::Syn, (7, Some(9)));
            let segment = read(&frame).unwrap();
            assert_eq!((segment.from, segment.to), (from, to));
            assert_eq!((segment.sequence, segment.acknowledgement, segment.length), (7, 9, 1));
            assert!(segment.syn && segment.ack && !segment.rst && !segment.is_syn());
        }
    }

    #[test]
    fn the_tag_is_an_unusual_option() {
        let usual = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7];
        assert!(!has_unusual_option(&usual));
        assert!(has_unusual_option(&[&usual[..], &[253, 5, 0x4e, 0x52, 1, 1, 1, 1]].concat()));
    }
}
