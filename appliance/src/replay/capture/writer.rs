//! Writes the pcap format with nanoseconds, big-endian whatever the machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use super::{ETHERNET, Error, SNAPLEN};

/// The latest time that the format can hold, in the year 2106.
pub const LAST_TIME: Duration = Duration::new(u32::MAX as u64, 999_999_999);

/// A pcap file with nanosecond timestamps.
pub struct Writer<W = BufWriter<File>> {
    name: String,
    output: W,
}

impl Writer {
    /// Creates the file, or truncates it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Self::new(name, BufWriter::new(file)),
            Err(source) => Err(Error::Write { name, source }),
        }
    }
}

impl<W: Write> Writer<W> {
    /// Begins a capture in `output`; `name` stands for it in messages.
    ///
    /// # Errors
    /// If `output` cannot be written.
    pub fn new(name: impl Into<String>, output: W) -> Result<Self, Error> {
        let mut writer = Self { name: name.into(), output };
        writer.words(&[0xa1b2_3c4d, 0x0002_0004, 0, 0, SNAPLEN, ETHERNET])?;
        Ok(writer)
    }

    /// Appends a frame. A time after [`LAST_TIME`] is written as that, and of a frame that is longer
    /// than any reader takes, 262,144 bytes, the beginning.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write(&mut self, time: Duration, bytes: &[u8]) -> Result<(), Error> {
        let time = time.min(LAST_TIME);
        let captured = bytes.len().min(SNAPLEN as usize);
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.words(&[seconds, time.subsec_nanos(), captured as u32, length])?;
        self.bytes(&bytes[..captured])
    }

    /// Writes buffered bytes to the output.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        let done = self.output.flush();
        done.map_err(|source| Error::Write { name: self.name, source })
    }

    fn words(&mut self, words: &[u32]) -> Result<(), Error> {
        words.iter().try_for_each(|word| self.bytes(&word.to_be_bytes()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.output.write_all(bytes);
        written.map_err(|source| Error::Write { name: self.name.clone(), source })
    }
}
