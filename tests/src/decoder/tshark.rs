//! `tshark` over many frames at once.

use std::time::Duration;

use crate::lab::run_within;
use crate::scenario::pcap::{self, Record};

/// Everything at once takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The frames that tshark finds malformed or with a wrong checksum, by number from 0.
pub(super) fn complaints(frames: &[&[u8]]) -> Result<Vec<(usize, String)>, String> {
    let file = tempfile::NamedTempFile::with_suffix(".pcap").map_err(|e| e.to_string())?;
    let at = |number: usize| Duration::from_millis(number as u64);
    let records: Vec<_> =
        frames.iter().enumerate().map(|(n, bytes)| Record::new(at(n), bytes.to_vec())).collect();
    std::fs::write(file.path(), pcap::write(&records)).map_err(|error| error.to_string())?;
    let path = file.path().to_string_lossy();
    // Each frame by itself: nothing is put together out of several, and no data is read.
    let options = [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "ip.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
    ];
    // 0x800000 is an error; 0x600000 a warning, which a reset or an unusual option is too.
    let bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 \
               || udp.checksum.status == 0 || icmp.checksum.status == 0 \
               || _ws.expert.severity == 0x800000";
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
        found.push((number - 1, text.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::names::Names;
    use crate::scenario::notation::{Scope, parse};

    #[test]
    fn finds_the_wrong_ones_among_the_sound() {
        let names = Names::parse("a 02:00:00:00:00:01\nb 02:00:00:00:00:02").unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        let tcp = "10.0.0.1:1 > 10.0.0.2:2 ACK data=5";
        let wrong = ["badip", "badtcp", "iplen=500", "doff=4"];
        let mut frames = vec![
            parse(tcp, scope).unwrap().bytes(),
            parse(&format!("10.0.0.1 > 10.0.0.2 [ {tcp} ] vlan=5"), scope).unwrap().bytes(),
        ];
        for wrong in wrong {
            frames.push(parse(&format!("{tcp} {wrong}"), scope).unwrap().bytes());
        }
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        let found: Vec<_> = complaints(&frames).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(found, (2..frames.len()).collect::<Vec<_>>());
    }
}
