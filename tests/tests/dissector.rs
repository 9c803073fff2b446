//! The Wireshark dissectors of the tag and of GUE, run by tshark over captures of good ones and
//! bad ones.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use firstack_packets::{Format, LINUX_OPTIONS, Segment, ethernet_frame, tag as tags, tunnel_in};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use pipeline::base::time::Ticks;
use pipeline::packet::buffer::HeapBuffer;
use pipeline::packet::view::Packet;
use pipeline::stage::sign::Keys;
use pipeline::stage::tag::{self, Configuration, CopiesWanted, Found, Tag};
use pipeline::wire::family::{Family, V4, V6};

const FIELDS: [&str; 9] = [
    "firstack.permitted",
    "firstack.configuration",
    "firstack.copies",
    "firstack.signed",
    "firstack.key",
    "firstack.mac",
    "firstack.bad",
    "firstack_gue.protocol",
    "firstack_gue.bad",
];

/// The fields of the tag where there is none.
const NO_TAG: &str = ",,,,,,";

const CLIENTS: [(&str, &str); 2] =
    [("198.18.1.10:40000", "203.0.113.10:80"), ("[2001:db8::1]:40000", "[2001:db8::2]:80")];
const OUTER: [(&str, &str); 2] =
    [("203.0.113.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:3::10")];

/// What tshark shows of each frame: the dissectors' fields, joined by commas.
fn dissect(frames: &[Vec<u8>]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("tags.pcap");
    let mut writer = PcapWriter::new(File::create(&capture).unwrap()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Duration::from_secs(1), frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wireshark/firstack.lua");
    let mut tshark = Command::new("tshark");
    tshark.arg("-X").arg(format!("lua_script:{}", script.display())).arg("-r").arg(&capture);
    tshark.args(["-T", "fields", "-E", "separator=,"]);
    for field in FIELDS {
        tshark.arg("-e").arg(field);
    }
    let output = tshark.output().expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
    let lines: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), frames.len());
    lines
}

fn syn(options: &[u8]) -> Segment {
    Segment::syn(CLIENTS[0].0, CLIENTS[0].1, 7).options(options)
}

/// A start packet that a gateway has tagged, and what is to be shown of its tag.
fn tagged<F: Family>(ends: (&str, &str), tag: Tag, keys: &Keys) -> (Vec<u8>, String) {
    let mut packet = Packet::new(HeapBuffer::new(&Segment::syn(ends.0, ends.1, 7).frame()));
    assert!(tag::insert::<F, _>(&mut packet, tag::OptionId::default(), tag, keys.at(Ticks(0))));
    let Found::Tag(found, ..) = tag::OptionId::default().find(packet.options()) else {
        panic!("no tag found");
    };
    let code = tag.configuration.map_or(3, |code| code as u8);
    let signature = found.signature.map(|s| format!("{},0x{:016x}", s.key, s.mac));
    let signed = u8::from(signature.is_some());
    let signature = signature.unwrap_or_else(|| ",".to_owned());
    let copies = tag.copies.bits();
    let shown = format!("{},{code},{copies},{signed},{signature},", u8::from(tag.permitted));
    (packet.ip().to_vec(), shown)
}

/// Every tag over both families: each configuration and none, permitted or not, signed or not; and
/// every number of copies wanted.
fn every_tag() -> Vec<(Vec<u8>, String)> {
    let mut all = Vec::new();
    for keys in [Keys::default(), Keys::new([(7, [3; 16])], Some(7))] {
        for configuration in
            [Some(Configuration::A), Some(Configuration::B), Some(Configuration::C), None]
        {
            for permitted in [true, false] {
                let tag = Tag {
                    permitted,
                    configuration,
                    ..Tag::requesting(CopiesWanted::ALL, Configuration::A)
                };
                all.push(tagged::<V4>(CLIENTS[0], tag, &keys));
                all.push(tagged::<V6>(CLIENTS[1], tag, &keys));
            }
        }
        for copies in (1..=15).map(CopiesWanted::from_bits) {
            let tag = Tag::requesting(copies, Configuration::C);
            all.push(tagged::<V4>(CLIENTS[0], tag, &keys));
            all.push(tagged::<V6>(CLIENTS[1], tag, &keys));
        }
    }
    all
}

#[test]
fn shows_every_tag_plain_and_in_every_tunnel() {
    let (mut frames, mut expected) = (Vec::new(), Vec::new());
    let macs = syn(&[]).macs;
    for (packet, tag) in every_tag() {
        frames.push(ethernet_frame(macs, &packet));
        expected.push(format!("{tag},,"));
        let protocol = if packet[0] >> 4 == 4 { 4 } else { 41 };
        for outer in OUTER {
            for format in Format::ALL {
                let tunnelled = tunnel_in(format.clone(), outer, (0, 0x1234_5678), &packet);
                frames.push(ethernet_frame(macs, &tunnelled));
                expected.push(match format {
                    Format::Gue(_) => format!("{tag},{protocol},"),
                    Format::Ipip(_) | Format::Gre(_) => format!("{tag},,"),
                });
            }
        }
    }
    for (number, (shown, expected)) in dissect(&frames).iter().zip(&expected).enumerate() {
        assert_eq!(shown, expected, "frame {}", number + 1);
    }
}

#[test]
fn tells_bad_tags_and_what_is_no_tag() {
    let bad: [&[u8]; 5] = [
        &[253, 4, 0x4e, 0x52],
        &[253, 6, 0x4e, 0x52, 1, 0, 1, 1],
        // The flags say signed, the length does not, and the other way round.
        &[253, 5, 0x4e, 0x52, 0x81, 1, 1, 1],
        &[253, 14, 0x4e, 0x52, 0x04, 7, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],
        &[253, 13, 0x4e, 0x52, 0x84, 7, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1],
    ];
    // Nothing, another ExID, and one behind the end of the list.
    let none: [&[u8]; 3] = [
        &LINUX_OPTIONS,
        &[253, 5, 0x12, 0x34, 1, 1, 1, 1],
        &[0, 0, 0, 0, 253, 5, 0x4e, 0x52, 1, 1, 1, 1],
    ];
    let frames = |all: &[&[u8]]| all.iter().map(|one| syn(one).frame()).collect::<Vec<_>>();
    for (shown, options) in dissect(&frames(&bad)).iter().zip(bad) {
        let fields: Vec<_> = shown.split(',').collect();
        assert_eq!(fields[..6], [""; 6], "{options:?}");
        assert!(!fields[6].is_empty(), "{options:?} is not marked: {shown}");
    }
    for (shown, options) in dissect(&frames(&none)).iter().zip(none) {
        assert_eq!(*shown, format!("{NO_TAG},,"), "{options:?}");
    }
}

#[test]
fn marks_gue_that_cannot_be_followed() {
    let unsigned = [&LINUX_OPTIONS[..], &tags::unsigned(tags::PERMITTED)].concat();
    let good = tunnel_in(Format::GUE, OUTER[0], (0, 5), &syn(&unsigned).packet());
    let (udp, gue) = (20, 28);
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        ethernet_frame(syn(&[]).macs, &packet)
    };
    let cut = |length: usize| {
        let mut packet = good[..length].to_vec();
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[udp + 4..udp + 6].copy_from_slice(&((length - udp) as u16).to_be_bytes());
        ethernet_frame(syn(&[]).macs, &packet)
    };
    let frames = [
        with(gue, 0x45),   // Variant 1: IP follows at once.
        with(gue, 0x20),   // A control message.
        with(gue, 0x01),   // Optional fields.
        with(gue + 1, 6),  // TCP inside.
        with(gue + 1, 41), // IPv6 it says, and is IPv4.
        with(gue + 2, 1),  // Flags, either byte.
        with(gue + 3, 1),
        cut(gue + 2), // Cut off in the header, and behind it.
        cut(gue + 4),
    ];
    for (number, shown) in dissect(&frames).iter().enumerate() {
        assert!(shown.starts_with(NO_TAG), "frame {}: {shown}", number + 1);
        let mark = shown.rsplit(',').next().unwrap();
        assert!(!mark.is_empty(), "frame {} is not marked: {shown}", number + 1);
    }
    // Another port is nobody's, a GUE packet with something else than TCP in it is well.
    let other_port = with(udp + 3, 0xc1);
    let mut inner = syn(&unsigned).packet();
    inner[9] = 17;
    let udp_inside = tunnel_in(Format::GUE, OUTER[1], (0, 5), &inner);
    let shown = dissect(&[other_port, ethernet_frame(syn(&[]).macs, &udp_inside)]);
    assert_eq!(shown, [format!("{NO_TAG},,"), format!("{NO_TAG},4,")]);
}
