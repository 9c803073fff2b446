//! Frames past decoders that are not ours: `etherparse` and `tshark`, lengths and checksums
//! checked.

mod strict;
mod tshark;

pub use strict::check;

/// Frames, each with what it is.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<(String, Vec<u8>)>);

impl Frames {
    /// Adds one.
    pub fn add(&mut self, what: String, bytes: Vec<u8>) {
        self.0.push((what, bytes));
    }

    /// What either decoder has to say against them.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<_> = self
            .0
            .iter()
            .filter_map(|(what, bytes)| {
                Some(format!("{what}: etherparse: {}", check(bytes).err()?))
            })
            .collect();
        let bytes: Vec<_> = self.0.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        match tshark::complaints(&bytes) {
            Ok(found) => complaints.extend(
                found.into_iter().map(|(at, text)| format!("{}: tshark: {text}", self.0[at].0)),
            ),
            Err(error) => complaints.push(error),
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::names::Names;
    use crate::scenario::notation::{Scope, parse};

    /// Frames that neither decoder may have anything against.
    pub const SOUND: &[&str] = &[
        "C > V ACK data=5",
        "C > V ACK data=5 pad=3 vlan=5",
        "C > V SYN opts=mss:5,tag,opt:254:1234,ws:1",
        "C > V SYN opts=mss:5,tag:C:7:0102030405060708",
        "C > V [ C > V ACK data=5 ] vlan=5",
        "C6 > V6 ACK data=5 vlan=5 pad=2",
        "C6 > V6 flow=77 tos=b8 SYN opts=linux,tag:B",
        "C6 > V6 ext=hop,dst,route,ah,dst ACK data=5",
        "C6 > V6 ext=dst*9 ACK",
        "C6 > V6 frag=0 id=7 ACK data=5",
        "C6 > V6 data=100 id=7 piece=0+40",
        "C6 > V6 data=100 id=7 piece=40+80",
        "V > R [ C6 > V6 ACK ]",
        "V6 > R6 [ C > V ACK data=3 ]",
        "V6 > R6 [ C6 > V6 ACK ]",
        "V > R gre [ C > V ACK ]",
        "V > R gre [ C6 > V6 ACK ]",
        "V6 > R6 gre [ C > V ACK data=3 ]",
        "V6 > R6 gre [ C6 > V6 ACK ]",
        "V > R gue sport=50000 [ C > V ACK ]",
        "V > R gue sport=50001 udpsum [ C6 > V6 ACK data=3 ]",
        "V6 > R6 gue sport=50002 [ C > V ACK ]",
        "V6 > R6 gue [ C6 > V6 ACK ]",
        "V6 > R6 [ V > R gre [ V6 > R6 gue [ C > V ACK ] ] ]",
        "V > C icmp=3/4 word=1400 quote=28 [ C > V ACK data=900 ]",
        "V > C icmp=3/4 word=1400 [ C > R gue [ C > V ACK data=90 ] ]",
        "V6 > C6 icmp6=2/0 word=1400 quote=1232 [ C6 > V6 ACK data=1400 ]",
        "V6 > C6 icmp6=1/4 [ C6 > R6 gre [ C6 > V6 ACK ] ]",
        "V6 > C6 icmp6=3/0 quote=48 [ C6 > V6 ACK ]",
        "V6 > C6 icmp6=4/1 word=40 [ C6 > V6 ACK ]",
        "C > V echo=1/2 data=9",
        "C6 > V6 echo=1/2 data=9",
        "C6 > V6 echoreply=1/2",
        "V6 > R6 gue [ V6 > R6 echo=1/2 data=8 ]",
        "nd solicit a/C6 > V6",
        "nd solicit a/:: > V6",
        "nd solicit a/C6 > b/V6",
        "nd advert a/C6 > b/V6",
        "nd advert a/C6 > all",
        "arp request a/C > b/V",
    ];

    /// Frames that both have to find wrong.
    pub const WRONG: &[&str] = &[
        "C > V ACK data=5 badip",
        "C > V ACK data=5 badtcp",
        "C > V ACK data=5 iplen=500",
        "C > V ACK data=5 doff=4",
        "C > V [ C > V ACK badtcp ]",
        "C6 > V6 ACK badtcp",
        "C6 > V6 ext=dst:x0401000000000000 ACK",
        "V6 > R6 [ C > V ACK badip ]",
        "V > R gre [ C6 > V6 ACK badtcp ]",
        "V > R gue badudp [ C > V ACK ]",
        "V6 > R6 gue badudp [ C6 > V6 ACK ]",
        "V6 > R6 gue nosum [ C6 > V6 ACK ]",
        "V6 > R6 gue [ C6 > V6 ACK badtcp ]",
        "V > C icmp=3/4 word=1400 badicmp [ C > V ACK ]",
        "V6 > C6 icmp6=2/0 word=1400 badicmp [ C6 > V6 ACK ]",
        "C6 > V6 echo=1/2 badicmp",
        "nd solicit a/C6 > V6 badicmp",
        "nd advert a/C6 > b/V6 badicmp",
    ];

    /// Frames that are not as we send them, or that tshark is not strict with.
    pub const ETHERPARSE_ONLY: &[&str] = &[
        "C > V ACK data=5 cut=40",
        "C > V ACK opts=hex:0800",
        "C > V ACK opts=tag,hex:fe00",
        "C > V ACK opts=tag,hex:fe0901",
        "C6 > V6 ACK iplen=500",
        "C6 > V6 ext=dst,hop ACK",
        "V > R gre greflags=2000 greopts=01020304 [ C > V ACK ]",
        "V > R gre greproto=86dd [ C > V ACK ]",
        "V > R gue guever=1 [ C > V ACK ]",
        "V > R gue gueproto=41 [ C > V ACK ]",
        "V > R gue gueflags=0001 [ C > V ACK ]",
        "V > R proto=41 [ C > V ACK ]",
        "V > C icmp=3/4 word=1400 [ C > V badip ACK ]",
    ];

    pub fn frames(texts: &[&str]) -> Vec<Vec<u8>> {
        let names = Names::parse(
            "C 10.0.0.1:1\nV 10.0.0.2:2\nR 10.0.0.3:2\nC6 [2001:db8::1]:1\nV6 [2001:db8::2]:2\n\
             R6 [2001:db8::3]:2\na 02:00:00:00:00:01\nb 02:00:00:00:00:02",
        )
        .unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        let frame = |text: &&str| parse(text, scope).unwrap_or_else(|e| panic!("{text}: {e}"));
        texts.iter().map(|text| frame(text).bytes()).collect()
    }
}
