//! The test vectors of docs/protocol.md, taken out of the document and held against the code; and
//! whether the counters and keys that it names are there.
//!
//! A vector is a fenced block whose first line is `vector` and a name. Each line after it is a
//! field's name, two spaces or more, and its value; a line that begins with blanks goes on.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use firstack_packets::{INSIDE_MAC, OUTSIDE_MAC, Segment, ethernet_frame};
use pipeline::base::time::Ticks;
use pipeline::counters::{Generated, Scalar};
use pipeline::packet::buffer::HeapBuffer;
use pipeline::packet::view::Packet;
use pipeline::stage::sign::{Keys, Verification};
use pipeline::stage::tag::{self, Configuration, CopiesWanted, Found, Tag};
use pipeline::stage::{clamp, encap};
use pipeline::verdict::Verdict;
use pipeline::wire::family::{Family, V4, V6};
use pipeline::wire::tunnel::Format;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const COUNTERS: &str = include_str!("../../docs/counters.md");

/// One vector.
struct Vector {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Vector {
    fn parse(block: &str) -> Option<Self> {
        let mut lines = block.lines();
        let name = lines.next()?.strip_prefix("vector ")?.trim().to_owned();
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in lines {
            if line.starts_with(' ') {
                let field = fields.get_mut(&last).expect("a line to go on with");
                field.push(' ');
                field.push_str(line.trim());
            } else {
                let (field, value) = line.split_once("  ").expect("a name and a value");
                last = field.to_owned();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        Some(Self { name, fields })
    }

    fn text(&self, field: &str) -> &str {
        let value = self.fields.get(field);
        value.unwrap_or_else(|| panic!("vector {}: {field} is missing", self.name))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        let digits: String = self.text(field).split_whitespace().collect();
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn number<T: std::str::FromStr>(&self, field: &str) -> T {
        self.text(field).parse().ok().unwrap_or_else(|| panic!("{}: {field}", self.name))
    }

    #[track_caller]
    fn check(&self, field: &str, computed: &[u8]) {
        let hex: Vec<_> = computed.iter().map(|byte| format!("{byte:02x}")).collect();
        let lines: Vec<_> = hex.chunks(16).map(|line| line.join(" ")).collect();
        assert_eq!(
            self.bytes(field),
            computed,
            "vector {}: {field} is\n{}",
            self.name,
            lines.join("\n")
        );
    }

    fn keys(&self) -> Keys {
        let key = self.bytes("key").try_into().expect("16 bytes");
        let id = self.number("key id");
        Keys::new([(id, key)], Some(id))
    }

    /// The time at which a tag is signed: the first second of the epoch; 1970 for unsigned ones.
    fn time(&self) -> Ticks {
        let epoch = self.fields.get("epoch").map_or(0, |text| text.parse().expect("a number"));
        Ticks::from_secs(epoch * 64)
    }

    fn code(&self) -> Configuration {
        match self.text("configuration") {
            "A" => Configuration::A,
            "B" => Configuration::B,
            _ => Configuration::C,
        }
    }

    /// The SYN, as the client sends it.
    fn start(&self) -> Packet<HeapBuffer> {
        let (client, server) = (self.text("client"), self.text("server"));
        let syn = Segment::syn(client, server, self.number("sequence"));
        Packet::new(HeapBuffer::new(&syn.options(&self.bytes("options")).frame()))
    }

    /// The SYN with its tag.
    fn tagged<F: Family>(&self, keys: &Keys) -> Packet<HeapBuffer> {
        let mut packet = self.start();
        let tag = Tag::requesting(CopiesWanted::ALL, self.code());
        assert!(tag::insert::<F, _>(
            &mut packet,
            tag::OptionId::default(),
            tag,
            keys.at(self.time())
        ));
        packet
    }
}

/// The vectors of one kind: those whose name begins so.
fn vectors(kind: &str) -> Vec<Vector> {
    let blocks = DOCUMENT.split("```text\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("a block"));
    let found: Vec<_> =
        blocks.filter_map(Vector::parse).filter(|v| v.name.starts_with(kind)).collect();
    assert!(!found.is_empty(), "docs/protocol.md has no vector {kind}");
    found
}

/// What the MAC covers, put together as the document says and not by the code.
fn covered(vector: &Vector) -> Vec<u8> {
    let end = |field| vector.text(field).parse::<SocketAddr>().unwrap();
    let (client, server) = (end("client"), end("server"));
    let mut bytes = Vec::new();
    for end in [client, server] {
        match end.ip() {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    for end in [client, server] {
        bytes.extend(end.port().to_be_bytes());
    }
    bytes.extend(vector.number::<u32>("sequence").to_be_bytes());
    bytes.push(0x81 | (vector.code() as u8) << 1);
    bytes.push(vector.number("key id"));
    bytes.extend(vector.number::<u32>("epoch").to_be_bytes());
    bytes
}

/// SipHash-2-4 by the standard library, which is not what the code uses.
#[allow(deprecated)]
fn siphash(key: &[u8], bytes: &[u8]) -> u64 {
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
    let mut hasher = std::hash::SipHasher::new_with_keys(word(&key[..8]), word(&key[8..]));
    hasher.write(bytes);
    hasher.finish()
}

fn check_tag<F: Family>(vector: &Vector, keys: &Keys) {
    vector.check("SYN", vector.start().ip());
    let packet = vector.tagged::<F>(keys);
    vector.check("tagged packet", packet.ip());
    let Found::Tag(tag, at, length) = tag::OptionId::default().find(packet.options()) else {
        panic!("vector {}: no tag found", vector.name);
    };
    vector.check("option", &packet.options()[at..at + length.next_multiple_of(4)]);
    let verified = keys.at(vector.time()).verify::<F, _>(&packet, &tag);
    match tag.signature {
        Some(_) => assert!(matches!(verified, Verification::Valid(_))),
        None => assert_eq!(verified, Verification::Unsigned),
    }
    if let Some(signature) = tag.signature {
        vector.check("MAC", &signature.mac.to_be_bytes());
    }
}

fn check_tag_of(vector: &Vector, keys: &Keys) {
    match vector.text("client").starts_with('[') {
        true => check_tag::<V6>(vector, keys),
        false => check_tag::<V4>(vector, keys),
    }
}

#[test]
fn unsigned_tags_are_as_the_document_says() {
    for vector in vectors("unsigned tag") {
        check_tag_of(&vector, &Keys::default());
    }
}

#[test]
fn signed_tags_are_as_the_document_says() {
    for vector in vectors("signed tag") {
        let covered = covered(&vector);
        vector.check("covered", &covered);
        vector.check("MAC", &siphash(&vector.bytes("key"), &covered).to_be_bytes());
        check_tag_of(&vector, &vector.keys());
    }
}

#[test]
fn tunnels_are_as_the_document_says() {
    for vector in vectors("tunnel") {
        let format = match vector.text("format") {
            "gre" => Format::Gre,
            "gue" => Format::Gue,
            _ => Format::Ipip,
        };
        let inner = vector.bytes("inner packet");
        let frame = ethernet_frame((OUTSIDE_MAC, INSIDE_MAC), &inner);
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        let entropy = match inner[0] >> 4 {
            4 => packet.source::<V4>().entropy(),
            _ => packet.source::<V6>().entropy(),
        };
        let (source, destination) =
            (vector.number("outer source"), vector.number("outer destination"));
        let outer = encap::OuterIp { format, source, destination, entropy };
        assert!(encap::put_to(&mut packet, outer));
        let added = packet.ip_len() - inner.len();
        vector.check("added in front", &packet.ip()[..added]);
        assert_eq!(packet.ip()[added..], inner, "vector {}", vector.name);
    }
}

#[test]
fn the_table_of_room_is_right() {
    fn room<F: Family>(format: Format) -> [usize; 3] {
        let room = 1500 - format.overhead::<F>();
        [format.overhead::<F>(), room, clamp::limit::<F>(room).into()]
    }
    for (name, format) in [("ipip", Format::Ipip), ("gre", Format::Gre), ("gue", Format::Gue)] {
        let rows = [("IPv4", room::<V4>(format)), ("IPv6", room::<V6>(format))];
        for (family, [overhead, room, mss]) in rows {
            let row = format!("| `{name}` over {family} | {overhead} | {room} | {mss} |");
            assert!(DOCUMENT.contains(&row), "docs/protocol.md lacks {row}");
        }
    }
}

#[test]
fn counters_and_keys_have_the_names_that_the_document_gives_them() {
    let mut verdicts = 0;
    for name in DOCUMENT.split('`').filter(|word| word.contains('_')) {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.chars().all(is_name) {
            continue;
        }
        let is_verdict = Verdict::ALL.iter().any(|verdict| verdict.name() == name);
        verdicts += usize::from(is_verdict);
        let is_scalar = || Scalar::ALL.iter().any(|scalar| scalar.name() == name);
        let is_generated = || Generated::ALL.iter().any(|packet| packet.name() == name);
        let is_of_table = || COUNTERS.contains(&format!("\n| `{name}` | connections |"));
        let is_key = || CONFIGURATION.contains(&format!(".{name}` |"));
        assert!(
            is_verdict || is_scalar() || is_generated() || is_of_table() || is_key(),
            "{name} is neither a counter nor a configuration key"
        );
    }
    assert!(verdicts > 50, "the document names {verdicts} counters");
}
