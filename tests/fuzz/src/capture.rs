//! Target `capture`: a capture file, read, and replayed through a role.
//!
//! Input: the role (1 byte), the file. What is read is in the file; what a replay writes is a sound
//! capture, whose frames are those that the counters say were sent.

use firstack::config::Config;
use firstack::control::keys::Keys;
use firstack::replay::capture::{LAST_TIME, Reader, Writer};
use firstack::replay::{Report, Streams, replay};

use crate::source::Source;

const GATEWAY: &str = include_str!("../../scenarios/configs/gateway.toml");
const SWITCH: &str = include_str!("../../scenarios/configs/switch.toml");
const REPLICA: &str = include_str!("../../scenarios/configs/replica.toml");

thread_local! {
    static CONFIGS: Vec<Config> = [GATEWAY, SWITCH, REPLICA]
        .map(|text| Config::parse("file", text).expect("a configuration of the scenarios"))
        .map(|mut config| {
            (config.table.max_connections, config.table.max_connections_v6) = (64, 64);
            config
        })
        .into();
}

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let how = source.byte();
    let file = source.rest();
    let Ok(mut reader) = Reader::new("in", file) else { return };
    let (mut bytes, mut frames, mut number) = (0, 0u64, 0);
    for frame in reader.by_ref() {
        assert!(frame.number > number, "numbers do not count up");
        assert!(frame.wire_length >= frame.bytes.len() as u64);
        (number, frames) = (frame.number, frames + 1);
        bytes += frame.bytes.len();
    }
    assert!(bytes <= file.len(), "more is read than there is");
    assert!(frames > 0 || reader.damage().is_some() || reader.notes().is_empty());
    if frames > 0 && how & 0x80 == 0 {
        CONFIGS.with(|configs| replays(&configs[usize::from(how) % configs.len()], how, file));
    }
}

fn replays(config: &Config, how: u8, file: &[u8]) {
    let open = |is_open: bool| is_open.then(|| Reader::new("in", file)).transpose();
    let (inside, outside) = (open(how & 8 == 0), open(how & 16 == 0 || how & 8 != 0));
    let (Ok(inside), Ok(outside)) = (inside, outside) else { panic!("read once, but not twice") };
    let report = [Report::Summary, Report::Explain, Report::Json][usize::from(how >> 5) % 3];
    let (mut out, mut print) = ([Vec::new(), Vec::new()], Vec::new());
    let [first, second] = &mut out;
    let writers = [Writer::new("inside", first), Writer::new("outside", second)];
    let [Ok(first), Ok(second)] = writers else { panic!("memory can be written") };
    let streams = Streams { inside, outside, out: [first, second] };
    let remarks = replay(config, Keys::default(), streams, report, &mut print);
    let remarks = remarks.expect("memory can be written");
    let print = String::from_utf8(print).expect("the report is text");
    assert!(remarks.damage.iter().chain(&remarks.notes).all(|text| text.starts_with("in: ")));
    let mut sent = 0;
    for file in &out {
        let mut reader = Reader::new("out", file.as_slice()).expect("a sound capture");
        let frames: Vec<_> = reader.by_ref().collect();
        assert_eq!((reader.damage(), reader.notes()), (None, Vec::new()));
        assert!(frames.iter().all(|frame| frame.time <= LAST_TIME));
        sent += frames.len();
    }
    if report == Report::Json {
        let last = print.lines().last().expect("the counters");
        let counters: serde_json::Value = serde_json::from_str(last).expect("JSON");
        let sides = counters["counters"]["sides"].as_array().expect("sides");
        let counted = sides.iter().filter_map(|side| side["sent"].as_u64()).sum::<u64>();
        assert_eq!(counted, sent as u64, "what was sent is in the captures");
    }
}
