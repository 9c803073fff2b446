use proptest::prelude::*;

use super::*;
use crate::scenario::names::Names;

fn names() -> Names {
    Names::parse(
        "C 10.0.0.1:4\nV 10.0.0.2:80\nR 10.0.0.3:80\na 02:00:00:00:00:01\nb 02:00:00:00:00:02\n\
         C6 [2001:db8::1]:4\nV6 [2001:db8::2]:80\nR6 [2001:db8::3]:80\n\
         K 000102030405060708090a0b0c0d0e0f",
    )
    .unwrap()
}

fn scope(names: &Names) -> Scope<'_> {
    Scope { names, macs: ("a", "b"), input: None }
}

/// What comes out as it was written.
const LINES: &[&str] = &[
    "C > V SYN seq=1000 opts=linux,tag vlan=88a8:5,8100:6",
    "V > R ttl=3 tos=b8 [ C > V SYN ACK seq=7 ack=9 win=0 data=x0102 ] pad=4",
    "C > V id=7 mf proto=6 data=16",
    "C:9 > V udp data=3",
    "V > C icmp=3/4 word=1400 [ C > R ACK seq=5 data=8 ]",
    "arp request a/C > 00:00:00:00:00:00/V from=a",
    "ether=88cc data=x0102",
    // IPv6.
    "C6 > V6 SYN seq=1000 opts=linux,tag vlan=8100:6",
    "C6 > [2001:db8::9]:443 ttl=3 tos=b8 flow=1048575 ACK data=5",
    "C6 > V6 ext=hop,route,ah,dst ACK",
    "C6 > V6 ext=hop,dst*20,route:3,dst:x000102030405ff,mobility,hip,shim6 ACK",
    "C6 > V6 frag=0 ACK",
    "C6 > V6 id=4000000000 frag=0 ACK",
    "C6 > V6 ext=hop,frag,dst frag=0 ACK",
    "C6 > V6 ext=dst id=9 mf proto=6 data=16",
    "C6 > V6 id=9 frag=1232 proto=6 data=16",
    "C6 > V6:9 udp data=3",
    "C6 > V6:9 udp nosum data=3",
    "C6 > V6 proto=59 data=3",
    // Tunnels.
    "V6 > R6 [ C > V SYN ]",
    "V6 > R6 [ C6 > V6 SYN ] pad=4",
    "V > R [ C6 > V6 SYN ]",
    "V > R gre [ C > V SYN ]",
    "V6 > R6 gre [ C > V SYN ]",
    "V > R gre [ C6 > V6 SYN ]",
    "V > R gue [ C > V SYN ]",
    "V6 > R6 gue sport=50000 [ C6 > V6 SYN ]",
    "V > R gue sport=50000 udpsum [ C6 > V6 SYN ]",
    "V6 > R6 gue nosum [ C > V SYN ]",
    "V > R gre greflags=b001 greproto=6558 greopts=000000010000000200000003 [ C > V SYN ]",
    "V > R gue guever=2 guectl gueproto=59 gueflags=0102 gueopts=01020304 [ C > V SYN ]",
    "V > R proto=41 [ C > V SYN ]",
    "V > R gre data=x4500",
    "V > R gue data=x6000",
    "V > R gre [ C > V ACK data=40 ] short=34",
    "V > R [ C > V SYN ] data=9 pad=2",
    "V > R [ C6 > V6 ACK data=40 ] short=70",
    "V > R [ V6 > R6 gre [ R > V gue [ C6 > V6 flow=4 SYN ] ] ]",
    // ICMP.
    "R6 > C6 icmp6=2/0 word=1380 [ C6 > V6 ACK seq=5 data=8 ]",
    "R6 > C6 icmp6=1/4 quote=48 [ C6 > V6 seq=5 data=1000 ]",
    "R6 > C6 icmp6=3/0 quote=1232 [ R6 > V6 gue [ C6 > V6 ACK seq=5 data=1400 ] ]",
    "R > C icmp=3/4 word=1400 quote=28 [ C > V seq=5 data=1400 ]",
    "R > C icmp=3/4 word=1400 quote=48 [ C > R [ C > V seq=5 data=1000 ] ]",
    "R > C icmp=3/4 word=1400 quote=548 [ C > R gre [ C > V ACK seq=5 data=1400 ] ]",
    "R > C icmp=11/0 quote=60 [ C > R gue [ C > V seq=5 data=1400 ] ]",
    "R > C icmp=11/0 quote=28 [ C > V udp data=100 ]",
    "R > C icmp=3/4 word=1400 [ C > V id=3 mf iplen=1500 proto=6 data=8 ]",
    "R > C icmp=3/4 word=1400 data=x4500",
    "C > V echo=7/65535 data=16",
    "V6 > C6 echoreply=7/1 data=16",
    "V6 > R6 [ V6 > R6 echo=1/2 ]",
    "C6 > V6 icmp6=133/0",
    "C6 > V6 icmp=8/0 word=65537",
    // Neighbour discovery.
    "nd solicit a/C6 > V6",
    "nd solicit b/:: > V6 vlan=8100:6",
    "nd solicit a/C6 > b/V6 target=R6 ttl=64",
    "nd solicit a/C6 > V6 lla=none to=b from=b",
    "nd advert a/C6 > b/V6",
    "nd advert a/C6 > all",
    "nd advert a/C6 > b/V6 target=R6 flags=RO lla=b from=a",
    "nd advert a/C6 > b/V6 flags=none",
    // Signed tags.
    "C6 > V6 SYN seq=1000 opts=linux,tag:C:7:0102030405060708",
    "C > V SYN seq=1000 opts=mss:1460,tag:B:7:K",
    "C6 > V6 SYN seq=1000 opts=mss:1460,tag:80:255:K",
    "V > R gue [ C6 > V6 SYN seq=1000 opts=tag:C:7:K,eol ]",
];

#[test]
fn what_is_written_is_read_back() {
    let names = names();
    for text in LINES {
        let bytes = parse(text, scope(&names)).unwrap_or_else(|e| panic!("{text}: {e}")).bytes();
        let shown = show(&bytes, scope(&names));
        // The sender's MAC address stands only once in the notation for an advertisement.
        let is_other = text.contains("lla=");
        assert!(shown == *text || is_other && !shown.starts_with("raw"), "{text}: {shown}");
    }
}

#[test]
fn what_is_wrong_is_patched() {
    let names = names();
    let show = |text: &str| show(&parse(text, scope(&names)).unwrap().bytes(), scope(&names));
    for text in [
        "C > V ACK badtcp",
        "C6 > V6 ACK badtcp",
        "V > R [ C > V badip ACK ]",
        "V6 > R6 gue badudp [ C > V ACK ]",
        "R6 > C6 icmp6=2/0 badicmp [ C6 > V6 ACK ]",
        "nd solicit a/C6 > V6 badicmp",
        "V > R gue udplen=9 [ C > V ACK ]",
    ] {
        let shown = show(text);
        assert!(shown.contains("patch=") && !shown.starts_with("raw"), "{text}: {shown}");
    }
}

#[test]
fn what_came_in_is_recognised() {
    let names = names();
    for (input, texts) in [
        ("C > V SYN opts=linux pad=6", &["same", "same pad=0 opts=linux,tag", "same dst=R"][..]),
        (
            "C6 > V6 SYN seq=5 opts=linux,tag",
            &[
                "same dst=R6 opts=linux",
                "same ttl=63 flow=7",
                "V6 > R6 [ same ]",
                "V > R gue sport=50000 [ same tos=03 ]",
                "C6 > R6 gre [ same opts=mss:1400,sack,ts:1:0,nop,ws:7 ]",
                "R6 > C6 icmp6=2/0 word=1400 quote=48 [ same ]",
            ],
        ),
        ("V6 > R6 [ C > V SYN ] pad=4", &["inner", "inner dst=R", "V > R [ inner ]"]),
        ("V > R gre [ C6 > V6 SYN ]", &["inner dst=R6 opts=sack", "V6 > R6 gue [ inner ]"]),
        ("V6 > R6 gue [ V > R [ C > V SYN ] ]", &["inner", "R > C [ inner ttl=9 ]"]),
        (
            "R > C id=3 nodf ACK seq=5 data=2000",
            &[
                "R > C [ same src=V piece=0+1376 ]",
                "R > C [ same src=V piece=1376+644 ]",
                "same piece=1376+644",
            ],
        ),
        (
            "R > C id=3 mf ACK data=12",
            &["same src=V", "same src=V:7 ttl=9", "R > C [ same src=V ]"],
        ),
        ("C > V ACK badip ihl=4", &["same"]),
        ("C6 > V6 id=9 frag=0 ACK data=100", &["same piece=0+96", "V6 > R6 [ same piece=96+24 ]"]),
        ("C > V udp data=9", &["same dst=R:9", "R > V [ same src=V:7 ]"]),
        ("C > V echo=1/2", &["same dst=R", "R > V [ same dst=R ]"]),
        ("arp request a/C > b/V", &["same to=b"]),
    ] {
        let input = parse(input, scope(&names)).unwrap();
        let scope = Scope { input: Some(&input), ..scope(&names) };
        for text in texts {
            assert_eq!(show(&parse(text, scope).unwrap().bytes(), scope), *text);
        }
    }
}

proptest! {
    /// Whatever is done to a frame, it can be shown, and what is shown can be read.
    #[test]
    fn any_bytes_can_be_shown(
        line in 0..LINES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let names = names();
        let input = parse(LINES[line], scope(&names)).unwrap();
        let mut bytes = input.bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(length.index(bytes.len()));
        }
        let scope = Scope { input: Some(&input), ..scope(&names) };
        let shown = show(&bytes, scope);
        prop_assert_eq!(parse(&shown, scope).map(|frame| frame.bytes()), Ok(bytes), "{}", shown);
    }
}
