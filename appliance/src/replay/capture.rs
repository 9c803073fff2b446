//! Capture files: reads pcap and pcapng, writes pcap.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError, TsResolution};

/// An error of a capture file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not a capture of Ethernet frames.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

enum Source {
    Pcap(PcapReader<BufReader<File>>),
    PcapNg(Box<PcapNg>),
}

/// A pcapng file and the resolution of its interfaces' timestamps, in units per second.
struct PcapNg {
    reader: PcapNgReader<BufReader<File>>,
    interfaces: Vec<u64>,
}

/// A capture file, read frame by frame. As an iterator it returns whole frames, and ends where the
/// file is damaged.
pub struct Reader {
    path: PathBuf,
    source: Source,
    frames: u64,
    /// Set if the file ends in the middle of a frame or has an unreadable block.
    damage: Option<String>,
}

/// A frame and the time of its capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Time of the capture, since the Unix epoch.
    pub time: Duration,
    /// The frame's bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

impl Reader {
    /// Opens a capture. The file's first bytes tell pcap from pcapng.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a capture of Ethernet frames.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File { path: path.to_owned(), source };
        let format = |reason| Error::Format { path: path.to_owned(), reason };
        let mut magic = Vec::new();
        File::open(path).map_err(file)?.take(4).read_to_end(&mut magic).map_err(file)?;
        if magic.is_empty() {
            return Err(format("is empty; expected a pcap or pcapng file".to_owned()));
        }
        let input = BufReader::new(File::open(path).map_err(file)?);
        let damaged = |error: PcapError| match error {
            PcapError::InvalidField(_) => format("not a pcap or pcapng file".to_owned()),
            error => format(format!("not a whole pcap or pcapng file: {error}")),
        };
        let source = if magic == PCAPNG_MAGIC {
            let reader = PcapNgReader::new(input).map_err(damaged)?;
            Source::PcapNg(Box::new(PcapNg { reader, interfaces: Vec::new() }))
        } else {
            let reader = PcapReader::new(input).map_err(damaged)?;
            let link = reader.header().datalink;
            if link != DataLink::ETHERNET {
                return Err(format(format!("link type is {link:?}; expected Ethernet")));
            }
            Source::Pcap(reader)
        };
        Ok(Self { path: path.to_owned(), source, frames: 0, damage: None })
    }

    /// Returns where and why the file broke off, or `None` if it did not.
    pub fn damage(&self) -> Option<String> {
        let damage = self.damage.as_ref()?;
        Some(format!("{}: after frame {}: {damage}", self.path.display(), self.frames))
    }

    fn next_frame(&mut self) -> Option<Result<Frame, PcapError>> {
        match &mut self.source {
            Source::Pcap(reader) => {
                let nanos = match reader.header().ts_resolution {
                    TsResolution::MicroSecond => 1_000,
                    TsResolution::NanoSecond => 1,
                };
                // Raw, because the checked form refuses frames that were captured in part.
                Some(reader.next_raw_packet()?.map(|packet| Frame {
                    time: Duration::from_secs(packet.ts_sec.into())
                        + Duration::from_nanos(u64::from(packet.ts_frac) * nanos),
                    bytes: packet.data.into_owned(),
                }))
            }
            Source::PcapNg(file) => file.next_frame(),
        }
    }
}

impl PcapNg {
    fn next_frame(&mut self) -> Option<Result<Frame, PcapError>> {
        loop {
            match self.reader.next_block()? {
                Ok(Block::SectionHeader(_)) => self.interfaces.clear(),
                Ok(Block::InterfaceDescription(interface)) => {
                    if interface.linktype != DataLink::ETHERNET {
                        return Some(Err(PcapError::InvalidField("link type is not Ethernet")));
                    }
                    self.interfaces.push(units_per_second(&interface.options));
                }
                Ok(Block::EnhancedPacket(packet)) => {
                    let units = self.interfaces.get(packet.interface_id as usize).copied();
                    // The reader takes the timestamp's units for nanoseconds whatever they are.
                    let count = packet.timestamp.as_nanos();
                    let nanos = count * 1_000_000_000 / u128::from(units.unwrap_or(1_000_000));
                    let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                    return Some(Ok(Frame { time, bytes: packet.data.into_owned() }));
                }
                Ok(Block::SimplePacket(_)) => {
                    return Some(Err(PcapError::InvalidField("a packet without a time")));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Returns the resolution of an interface's timestamps in units per second: a power of ten or two,
/// microseconds by default.
fn units_per_second(options: &[InterfaceDescriptionOption<'_>]) -> u64 {
    let resolution = options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    match resolution {
        None => 1_000_000,
        Some(exponent) if exponent & 0x80 == 0 => 10u64.saturating_pow(exponent.into()),
        Some(exponent) => 1u64.checked_shl((exponent & 0x7f).into()).unwrap_or(u64::MAX),
    }
}

impl Iterator for Reader {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if self.damage.is_some() {
            return None;
        }
        match self.next_frame()? {
            Ok(frame) => {
                self.frames += 1;
                Some(frame)
            }
            Err(error) => {
                self.damage = Some(error.to_string());
                None
            }
        }
    }
}

/// The snapshot length of tcpdump; no frame is longer.
const SNAPLEN: u32 = 262_144;

/// A pcap file with nanosecond timestamps.
pub struct Writer {
    path: PathBuf,
    inner: PcapWriter<BufWriter<File>>,
}

impl Writer {
    /// Creates the file, or truncates it.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File { path: path.to_owned(), source };
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            datalink: DataLink::ETHERNET,
            snaplen: SNAPLEN,
            ..PcapHeader::default()
        };
        let output = BufWriter::new(File::create(path).map_err(file)?);
        let inner = PcapWriter::with_header(output, header)
            .map_err(|error| file(std::io::Error::other(error)))?;
        Ok(Self { path: path.to_owned(), inner })
    }

    /// Appends a frame.
    pub fn write(&mut self, time: Duration, bytes: &[u8]) -> Result<(), Error> {
        let packet = PcapPacket::new(time, bytes.len() as u32, bytes);
        let written = self.inner.write_packet(&packet).map(drop);
        written.map_err(|error| self.failed(std::io::Error::other(error)))
    }

    /// Writes buffered bytes to the file.
    pub fn finish(self) -> Result<(), Error> {
        let path = self.path.clone();
        self.inner.into_writer().flush().map_err(|source| Error::File { path, source })
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::File { path: self.path.clone(), source }
    }
}
