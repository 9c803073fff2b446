//! `etherparse` over one frame, tunnels included.

use etherparse::{
    EtherType, IpNumber, Ipv4Slice, SlicedPacket, TcpOptionReadError, TcpOptionsIterator, TcpSlice,
    UdpSlice,
};

/// Whether lengths and checksums are right, from the Ethernet header to the innermost segment.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    match packet.ether_payload() {
        Some(payload) if payload.ether_type == EtherType::IPV4 => ipv4(payload.payload),
        _ => Ok(()),
    }
}

fn ipv4(bytes: &[u8]) -> Result<(), String> {
    let ip = Ipv4Slice::from_slice(bytes).map_err(|error| error.to_string())?;
    let header = ip.header().to_header();
    if header.calc_header_checksum() != header.header_checksum {
        return Err("wrong IP checksum".to_owned());
    }
    let payload = ip.payload();
    if payload.fragmented {
        return Ok(());
    }
    let (source, destination) = (header.source, header.destination);
    match payload.ip_number {
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(payload.payload).map_err(|error| error.to_string())?;
            options(tcp.options())?;
            let sum = tcp.calc_checksum_ipv4(source, destination).map_err(|e| e.to_string())?;
            if sum == tcp.checksum() { Ok(()) } else { Err("wrong TCP checksum".to_owned()) }
        }
        IpNumber::UDP => {
            UdpSlice::from_slice(payload.payload).map(drop).map_err(|error| error.to_string())
        }
        IpNumber::IPV4 => ipv4(payload.payload).map_err(|error| format!("inner: {error}")),
        _ => Ok(()),
    }
}

/// Those that etherparse does not know are stepped over by their length.
fn options(mut area: &[u8]) -> Result<(), String> {
    loop {
        let mut options = TcpOptionsIterator::from_slice(area);
        match options.by_ref().find_map(Result::err) {
            None => return Ok(()),
            Some(TcpOptionReadError::UnknownId(_)) => {}
            Some(error) => return Err(error.to_string()),
        }
        // After an error the iterator is at its end: look for the unknown option anew.
        let at = unknown(area).ok_or("an option without a length")?;
        let length = usize::from(*area.get(at + 1).ok_or("an option without a length")?);
        if length < 2 {
            return Err(format!("an option of length {length}"));
        }
        area = area.get(at + length..).ok_or("an option that runs past the area")?;
    }
}

/// Where the first option is that etherparse does not know.
fn unknown(area: &[u8]) -> Option<usize> {
    let mut options = TcpOptionsIterator::from_slice(area);
    loop {
        let at = area.len() - options.rest().len();
        if options.next()?.is_err() {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::names::Names;
    use crate::scenario::notation::{Scope, parse};

    #[test]
    fn takes_sound_frames_and_no_others() {
        let names = Names::parse("a 02:00:00:00:00:01\nb 02:00:00:00:00:02").unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        let judge = |text: &str| check(&parse(text, scope).unwrap().bytes());
        let tcp = "10.0.0.1:1 > 10.0.0.2:2 ACK data=5";
        assert_eq!(judge(&format!("{tcp} pad=3 vlan=5")), Ok(()));
        assert_eq!(judge(&format!("10.0.0.1 > 10.0.0.2 [ {tcp} ]")), Ok(()));
        for wrong in ["badip", "badtcp", "opts=hex:0800", "iplen=500", "doff=4", "cut=40"] {
            assert!(judge(&format!("{tcp} {wrong}")).is_err(), "{wrong}");
        }
        assert!(judge(&format!("10.0.0.1 > 10.0.0.2 [ {tcp} badtcp ]")).is_err());
        assert_eq!(judge(&format!("{tcp} opts=mss:5,tag,opt:254:1234,ws:1")), Ok(()));
        assert!(judge(&format!("{tcp} opts=tag,hex:fe00")).is_err());
        assert!(judge(&format!("{tcp} opts=tag,hex:fe0901")).is_err());
    }
}
