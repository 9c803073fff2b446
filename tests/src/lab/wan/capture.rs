//! Captures of what a port sees, both directions in one file (pcap, nanoseconds, Ethernet).

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::time::Duration;

/// Bytes kept of a frame when the configuration does not say.
const WHOLE: u32 = 65_535;
/// The magic number of a capture with nanosecond timestamps.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Link type Ethernet.
const ETHERNET: u32 = 1;

/// One capture file.
#[derive(Debug)]
pub struct Capture<W: Write = BufWriter<File>> {
    writer: W,
    snaplen: u32,
}

impl Capture {
    /// Creates the file.
    pub fn create(path: &Path, snaplen: Option<u32>) -> Result<Self> {
        Self::new(BufWriter::with_capacity(1 << 18, File::create(path)?), snaplen)
    }
}

impl<W: Write> Capture<W> {
    fn new(mut writer: W, snaplen: Option<u32>) -> Result<Self> {
        let snaplen = snaplen.unwrap_or(WHOLE).min(WHOLE);
        let version = 2u32 | 4 << 16;
        // The header states WHOLE in any case: some readers refuse frames longer than it.
        for field in [MAGIC, version, 0, 0, WHOLE, ETHERNET] {
            writer.write_all(&field.to_le_bytes())?;
        }
        Ok(Self { writer, snaplen })
    }

    /// Writes a frame seen at that time since 1970.
    pub fn write(&mut self, seen: Duration, frame: &[u8]) -> Result<()> {
        let kept = &frame[..frame.len().min(self.snaplen as usize)];
        let seconds = seen.as_secs() as u32;
        let lengths = [kept.len() as u32, frame.len() as u32];
        for field in [seconds, seen.subsec_nanos(), lengths[0], lengths[1]] {
            self.writer.write_all(&field.to_le_bytes())?;
        }
        self.writer.write_all(kept)
    }

    /// Brings everything to the file.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::PcapReader;

    #[test]
    fn a_capture_reads_back() {
        let seen = Duration::new(1_700_000_000, 123_456_789);
        let mut capture = Capture::new(Vec::new(), Some(60)).unwrap();
        capture.write(seen, &[1; 1514]).unwrap();
        capture.write(seen, &[2; 42]).unwrap();
        let mut reader = PcapReader::new(&capture.writer[..]).unwrap();
        let first = reader.next_packet().unwrap().unwrap();
        assert_eq!((first.timestamp, first.orig_len, first.data.len()), (seen, 1514, 60));
        let second = reader.next_packet().unwrap().unwrap();
        assert_eq!((second.orig_len, second.data.into_owned()), (42, vec![2; 42]));
        assert!(reader.next_packet().is_none());
    }
}
