//! `tshark` over many frames at once.

use std::time::Duration;

use super::strict::gue_contents;
use crate::lab::run_within;
use crate::scenario::pcap::{self, Record};

/// Everything at once takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The frames that tshark finds malformed or with a wrong checksum, by number from 0. It does
/// not know GUE: what is in such a tunnel is shown to it as a frame too.
pub(super) fn complaints(frames: &[&[u8]]) -> Result<Vec<(usize, String)>, String> {
    let mut shown = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        shown.push((number, frame.to_vec()));
        shown.extend(gue_contents(frame).into_iter().map(|inner| (number, inner)));
    }
    let file = tempfile::NamedTempFile::with_suffix(".pcap").map_err(|e| e.to_string())?;
    let at = |number: usize| Duration::from_millis(number as u64);
    let records: Vec<_> =
        shown.iter().enumerate().map(|(n, (_, bytes))| Record::new(at(n), bytes.clone())).collect();
    std::fs::write(file.path(), pcap::write(&records)).map_err(|error| error.to_string())?;
    let path = file.path().to_string_lossy();
    // Each frame by itself: nothing is put together out of several, and no data is read.
    let options = [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
    ];
    // 0x800000 is an error; 0x600000 a warning, which a reset or an unusual option is too. What
    // an ICMP error quotes cut off is taken for whole, unless its TCP header is cut off too.
    let bad = "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 \
               || icmpv6.checksum.status == 0 || (!(icmpv6.type < 128) \
               && !(icmp && ip.len > frame.len) \
               && (tcp.checksum.status == 0 || udp.checksum.status == 0 \
               || _ws.expert.severity == 0x800000))";
    let mut words = vec!["tshark", "-n", "-r", &path, "-Y", bad];
    options.iter().for_each(|option| words.extend(["-o", option]));
    for protocol in ["http", "tls", "data"] {
        words.extend(["--disable-protocol", protocol]);
    }
    words.extend([
        "-T",
        "fields",
        "-E",
        "separator= ",
        "-e",
        "frame.number",
        "-e",
        "_ws.expert.message",
    ]);
    let output = run_within(&words, LIMIT).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for line in output.stdout.lines() {
        let (number, text) = line.split_once(' ').unwrap_or((line, ""));
        let number: usize = number.parse().map_err(|_| format!("tshark printed {line}"))?;
        let (frame, _) = shown.get(number - 1).ok_or(format!("tshark printed {line}"))?;
        found.push((*frame, text.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{SOUND, WRONG, frames};
    use super::*;

    #[test]
    fn finds_the_wrong_ones_among_the_sound() {
        let all = frames(&[SOUND, WRONG].concat());
        let all: Vec<_> = all.iter().map(Vec::as_slice).collect();
        let found = complaints(&all).unwrap();
        let numbers: BTreeSet<_> = found.iter().map(|(number, _)| *number).collect();
        let said: Vec<_> = found.iter().filter(|(number, _)| *number < SOUND.len()).collect();
        assert!(said.is_empty(), "{said:?}");
        for (number, text) in WRONG.iter().enumerate() {
            assert!(numbers.contains(&(SOUND.len() + number)), "{text}");
        }
    }
}
