//! Capture files: reads pcap and pcapng, writes pcap.
//!
//! The formats are read here because the crates for both refuse files that tcpdump and tshark read:
//! options without an end, addresses of another length, packets without a time. Sources:
//! draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

mod bytes;
mod classic;
mod pcapng;
mod writer;

use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::time::Duration;

use self::bytes::Order;
pub use self::writer::{LAST_TIME, Writer};

/// An error of a capture file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened to read.
    #[error("{name}: {source}")]
    Open {
        /// The file.
        name: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not a capture of Ethernet frames.
    #[error("{name}: {reason}")]
    Format {
        /// The file.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{name}: {source}")]
    Write {
        /// The file.
        name: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// A frame and the time of its capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the packet in its file, counted from 1 as tcpdump and Wireshark count.
    pub number: u64,
    /// Time of the capture, since the Unix epoch.
    pub time: Duration,
    /// The frame's bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Length of the frame on the wire, in bytes. More than there are if the capture cut it.
    pub wire_length: u64,
}

impl Frame {
    /// Returns whether the capture holds only the beginning of the frame.
    pub fn is_cut(&self) -> bool {
        self.wire_length > self.bytes.len() as u64
    }
}

/// A packet of any link type, as a file has it.
struct Record {
    time: Duration,
    link: u32,
    bytes: Vec<u8>,
    wire_length: u32,
}

enum Format {
    Classic(classic::Classic),
    PcapNg(pcapng::PcapNg),
}

/// The link type of Ethernet.
const ETHERNET: u32 = 1;
/// The bits of a link type; those above tell of the FCS.
const LINK_TYPE: u32 = 0x03ff_ffff;
/// The snapshot length of tcpdump; no frame is longer.
const SNAPLEN: u32 = 262_144;

/// A capture file, read frame by frame. As an iterator it returns Ethernet frames, and ends where
/// the file is damaged.
///
/// A frame check sequence at a frame's end, which some captures have, is left there: it is behind
/// the IP packet, like padding.
pub struct Reader<R = BufReader<File>> {
    name: String,
    input: Chain<Cursor<Vec<u8>>, R>,
    format: Format,
    /// The next frame.
    next: Option<Frame>,
    /// Packets read, of any link type.
    packets: u64,
    /// Packets that are not Ethernet frames, and the link type of the first.
    skipped: u64,
    other_link: u32,
    /// Frames that were captured in part.
    cut: u64,
    /// The first of them.
    first_cut: Option<(u64, usize, u64)>,
    damage: Option<String>,
}

impl Reader {
    /// Opens a capture. The file's first bytes tell pcap from pcapng.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a capture of Ethernet frames.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(name, BufReader::new(file)),
            Err(source) => Err(Error::Open { name, source }),
        }
    }
}

impl<R: Read> Reader<R> {
    /// Reads a capture from `input`; `name` stands for it in messages.
    ///
    /// ```rust
    /// use firstack::replay::capture::{Reader, Writer};
    /// use std::time::Duration;
    ///
    /// let mut file = Vec::new();
    /// let mut writer = Writer::new("out", &mut file)?;
    /// writer.write(Duration::from_secs(1), &[7; 60])?;
    /// writer.finish()?;
    /// let frames: Vec<_> = Reader::new("in", file.as_slice())?.collect();
    /// assert_eq!((frames[0].time, frames[0].bytes.len()), (Duration::from_secs(1), 60));
    /// # Ok::<(), firstack::replay::capture::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `input` cannot be read, or is not a capture of Ethernet frames.
    pub fn new(name: impl Into<String>, mut input: R) -> Result<Self, Error> {
        let name = name.into();
        let mut magic = Vec::new();
        if let Err(source) = input.by_ref().take(4).read_to_end(&mut magic) {
            return Err(Error::Open { name, source });
        }
        if magic.is_empty() {
            let reason = "is empty; expected a pcap or pcapng file".to_owned();
            return Err(Error::Format { name, reason });
        }
        let mut input = Cursor::new(magic.clone()).chain(input);
        let format = match magic == pcapng::MAGIC {
            true => pcapng::PcapNg::new(&mut input).map(Format::PcapNg),
            false => classic::Classic::new(&mut input).map(Format::Classic),
        };
        let format = match format {
            Ok(format) => format,
            Err(reason) => return Err(Error::Format { name, reason }),
        };
        let mut reader = Self {
            name,
            input,
            format,
            next: None,
            packets: 0,
            skipped: 0,
            other_link: 0,
            cut: 0,
            first_cut: None,
            damage: None,
        };
        // A classic capture has one link type, and tells it even if it has no packet.
        if let Format::Classic(classic) = &reader.format
            && classic.link != ETHERNET
        {
            (reader.skipped, reader.other_link) = (1, classic.link);
        } else {
            reader.next = reader.read();
        }
        match reader.next.is_none() && reader.skipped > 0 {
            true => {
                let link = reader.other_link;
                let reason = format!("link type is {link}; expected Ethernet (link type 1)");
                Err(Error::Format { name: reader.name, reason })
            }
            false => Ok(reader),
        }
    }

    /// Returns the capture's name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where and why the file broke off, or `None` if it did not.
    pub fn damage(&self) -> Option<String> {
        let damage = self.damage.as_ref()?;
        Some(format!("{}: after frame {}: {damage}", self.name, self.packets))
    }

    /// Returns what a replay of the capture cannot show: packets that were skipped, frames that the
    /// capture has cut.
    pub fn notes(&self) -> Vec<String> {
        let (name, mut notes) = (&self.name, Vec::new());
        if self.skipped > 0 {
            let (skipped, link) = (self.skipped, self.other_link);
            notes
                .push(format!("{name}: {skipped} packets skipped: not Ethernet, link type {link}"));
        }
        if let Some((number, captured, wire_length)) = self.first_cut {
            let cut = self.cut;
            notes.push(format!(
                "{name}: {cut} frames cut by the snapshot length, first frame {number}: {captured} \
                 of {wire_length} bytes; the appliance would have had all bytes"
            ));
        }
        notes
    }

    /// Reads the next Ethernet frame.
    fn read(&mut self) -> Option<Frame> {
        loop {
            let record = match &mut self.format {
                Format::Classic(classic) => classic.next(&mut self.input),
                Format::PcapNg(file) => file.next(&mut self.input),
            };
            let record = match record {
                Ok(record) => record?,
                Err(damage) => {
                    self.damage = Some(damage);
                    return None;
                }
            };
            self.packets += 1;
            if record.link == ETHERNET {
                let wire_length = u64::from(record.wire_length).max(record.bytes.len() as u64);
                let Record { time, bytes, .. } = record;
                let frame = Frame { number: self.packets, time, bytes, wire_length };
                if frame.is_cut() {
                    self.cut += 1;
                    let first = (frame.number, frame.bytes.len(), frame.wire_length);
                    self.first_cut.get_or_insert(first);
                }
                return Some(frame);
            }
            if self.skipped == 0 {
                self.other_link = record.link;
            }
            self.skipped += 1;
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let frame = self.next.take()?;
        if self.damage.is_none() {
            self.next = self.read();
        }
        Some(frame)
    }
}

/// Returns why a length that a file claims for a frame cannot be right, if it cannot.
fn check_length(length: u32) -> Result<usize, String> {
    match length <= SNAPLEN {
        true => Ok(length as usize),
        false => Err(format!("the next has {length} bytes; expected at most {SNAPLEN}")),
    }
}

#[cfg(test)]
mod tests;
