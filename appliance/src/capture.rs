//! Capture files: pcap and pcapng in, pcap out.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError, TsResolution};

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no capture of Ethernet frames.
    #[error("{path}: {reason}; expected a pcap or pcapng capture of Ethernet frames")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
}

enum Source {
    Pcap(PcapReader<BufReader<File>>),
    PcapNg(Box<PcapNgReader<BufReader<File>>>),
}

/// A capture that is read frame by frame.
pub struct Reader {
    path: PathBuf,
    source: Source,
    frames: u64,
    /// Set when the file ends in the middle of a frame, or has a block that cannot be read.
    damage: Option<String>,
}

/// A frame and when it was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Since the epoch.
    pub time: Duration,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

impl Reader {
    /// Opens a capture; its kind is told by its first bytes.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File { path: path.to_owned(), source };
        let format = |reason| Error::Format { path: path.to_owned(), reason };
        let mut magic = Vec::new();
        File::open(path).map_err(file)?.take(4).read_to_end(&mut magic).map_err(file)?;
        if magic.is_empty() {
            return Err(format("is empty".to_owned()));
        }
        let input = BufReader::new(File::open(path).map_err(file)?);
        let damaged = |error: PcapError| format(error.to_string());
        let source = if magic == PCAPNG_MAGIC {
            Source::PcapNg(Box::new(PcapNgReader::new(input).map_err(damaged)?))
        } else {
            let reader = PcapReader::new(input).map_err(damaged)?;
            let link = reader.header().datalink;
            if link != DataLink::ETHERNET {
                return Err(format(format!("has link type {link:?}")));
            }
            Source::Pcap(reader)
        };
        Ok(Self { path: path.to_owned(), source, frames: 0, damage: None })
    }

    /// Where the file broke off, if it did.
    pub fn damage(&self) -> Option<String> {
        let damage = self.damage.as_ref()?;
        Some(format!("{}: after frame {}: {damage}", self.path.display(), self.frames))
    }

    fn next_frame(&mut self) -> Option<Result<Frame, PcapError>> {
        match &mut self.source {
            Source::Pcap(reader) => reader.next_packet().map(|packet| {
                packet.map(|p| Frame { time: p.timestamp, bytes: p.data.into_owned() })
            }),
            Source::PcapNg(reader) => loop {
                match reader.next_block()? {
                    Ok(Block::EnhancedPacket(packet)) => {
                        let (time, bytes) = (packet.timestamp, packet.data.into_owned());
                        return Some(Ok(Frame { time, bytes }));
                    }
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            },
        }
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

/// A pcap file with nanosecond times.
pub struct Writer {
    path: PathBuf,
    inner: PcapWriter<BufWriter<File>>,
}

impl Writer {
    /// Creates the file, or empties it.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = |source| Error::File { path: path.to_owned(), source };
        let header = PcapHeader {
            ts_resolution: TsResolution::NanoSecond,
            datalink: DataLink::ETHERNET,
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

    /// Writes what is still buffered.
    pub fn finish(self) -> Result<(), Error> {
        let path = self.path.clone();
        self.inner.into_writer().flush().map_err(|source| Error::File { path, source })
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::File { path: self.path.clone(), source }
    }
}
