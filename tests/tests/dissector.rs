//! The Wireshark dissector of the tag, run by tshark over a capture of tags good and bad.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use pipeline::testing::{LINUX_OPTIONS, Segment};

const FIELDS: [&str; 6] = ["permitted", "configuration", "signed", "key", "mac", "bad"];

/// What tshark shows of each frame: the dissector's fields, joined by commas.
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
        tshark.arg("-e").arg(format!("firstack.{field}"));
    }
    let output = tshark.output().expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn shows_tags_plain_tunnelled_and_signed_and_what_is_no_tag() {
    let syn =
        |options: &[u8]| Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).options(options);
    let unsigned = [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, 1, 1, 1, 1]].concat();
    let signed = [253, 14, 0x4e, 0x52, 0x84, 7, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
    let frames = [
        syn(&unsigned).frame(),
        syn(&unsigned).tunnelled("203.0.113.10", "198.51.100.10"),
        syn(&signed).frame(),
        syn(&LINUX_OPTIONS).frame(),
        syn(&[253, 6, 0x4e, 0x52, 1, 0, 1, 1]).frame(),
        syn(&[253, 5, 0x12, 0x34, 1, 1, 1, 1]).frame(),
    ];
    let shown = dissect(&frames);
    let tag = "1,0,0,,,";
    assert_eq!(shown[..2], [tag, tag]);
    assert_eq!(shown[2], "0,2,1,7,0x0102030405060708,");
    assert_eq!(shown[3], ",,,,,");
    assert!(shown[4].starts_with(",,,,,") && shown[4].len() > 5, "{}", shown[4]);
    assert_eq!(shown[5], ",,,,,");
}
