//! Capture files, read and written plainly: classic pcap of Ethernet frames.

use std::time::Duration;

/// A frame and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since the epoch.
    pub time: Duration,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Record {
    /// A frame at a time.
    pub fn new(time: Duration, bytes: Vec<u8>) -> Self {
        Self { time, bytes }
    }
}

/// What the second halves of times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Microseconds.
    Micro,
    /// Nanoseconds.
    Nano,
}

/// Bytes of the file's header.
pub const HEADER: usize = 24;
/// Where the header says how long frames may be.
const SNAPLEN: usize = 16;
/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;

/// A capture of Ethernet frames with nanosecond times, as `firstack replay` writes it:
/// big-endian, whatever the machine.
pub fn write(records: &[Record]) -> Vec<u8> {
    write_as(records, Resolution::Nano, ETHERNET)
}

/// A big-endian capture.
pub fn write_as(records: &[Record], resolution: Resolution, link: u32) -> Vec<u8> {
    let (magic, unit) = match resolution {
        Resolution::Micro => (0xa1b2_c3d4u32, 1000),
        Resolution::Nano => (0xa1b2_3c4d, 1),
    };
    let mut file = Vec::new();
    for word in [magic, 0x0002_0004, 0, 0, 0xffff, link] {
        file.extend(word.to_be_bytes());
    }
    for record in records {
        let fraction = record.time.subsec_nanos() / unit;
        let length = record.bytes.len() as u32;
        for word in [record.time.as_secs() as u32, fraction, length, length] {
            file.extend(word.to_be_bytes());
        }
        file.extend(&record.bytes);
    }
    file
}

/// Whether two captures are the same byte for byte, but for the longest length that frames may
/// have: any that is long enough will do.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    let without = |file: &[u8]| [&file[..SNAPLEN], &file[SNAPLEN + 4..]].concat();
    let fits = |file: &[u8]| {
        let longest = u32::from_be_bytes([0, 1, 2, 3].map(|at| file[SNAPLEN + at])) as usize;
        read(file).iter().all(|record| record.bytes.len() <= longest)
    };
    without(one) == without(other) && fits(one) && fits(other)
}

/// Reads a capture of either byte order and resolution; panics when it is none or is cut off.
pub fn read(file: &[u8]) -> Vec<Record> {
    let big = file[0] == 0xa1;
    let word = |at: usize| {
        let bytes = file[at..at + 4].try_into().expect("four bytes");
        if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let unit = match word(0) {
        0xa1b2_c3d4 => 1000,
        0xa1b2_3c4d => 1,
        other => panic!("{other:08x} begins no capture"),
    };
    let (mut at, mut records) = (HEADER, Vec::new());
    while at < file.len() {
        let time = Duration::new(word(at).into(), word(at + 4) * unit);
        let length = word(at + 8) as usize;
        at += 16;
        records.push(Record { time, bytes: file[at..at + length].to_vec() });
        at += length;
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let record = |nanos, bytes: &[u8]| Record::new(Duration::new(5, nanos), bytes.to_vec());
        let records = [record(1000, b"one"), record(123_000, b"")];
        for resolution in [Resolution::Micro, Resolution::Nano] {
            assert_eq!(read(&write_as(&records, resolution, ETHERNET)), records);
        }
        let file = write(&records);
        let mut other = file.clone();
        other[SNAPLEN] = 1;
        assert!(same(&file, &other) && !same(&file, &write(&records[..1])));
        other[SNAPLEN..SNAPLEN + 4].fill(0);
        assert!(!same(&file, &other));
    }
}
