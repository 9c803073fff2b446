//! The key file of signed tags: one key per line, `ID HEX32 [sign]`.
//!
//! Keys are never shown, neither in errors nor in debug output. A word in the wrong place may be a
//! misplaced key, so errors repeat no word of the file.

use std::fmt;
use std::path::Path;

use zeroize::Zeroize;

use super::protected;

/// The largest accepted file in bytes, far more than 256 keys with comments need.
const LONGEST: u64 = 1 << 20;
/// Bytes of a key.
const KEY: usize = 16;

/// The purpose of the keys at a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signing, at a gateway: the file must name the key that signs.
    Sign,
    /// Verifying, at a switch or replica: a key marked `sign` is accepted, as one file may serve
    /// all roles, but not required.
    Check,
}

/// The keys of a key file, overwritten when they are dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    keys: Vec<(u8, [u8; KEY])>,
    sign: Option<u8>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

/// One mistake in a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Mistake {
    /// The file's name, as given by the caller.
    pub file: String,
    /// The line number, counted from 1.
    pub line: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// All mistakes of a key file, in the order of its lines; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Returns the mistakes in the order of their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Formats one line per mistake, without a newline at the end.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.iter().enumerate() {
            let newline = if number == 0 { "" } else { "\n" };
            write!(f, "{newline}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The reason why a key file is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or is not protected.
    #[error(transparent)]
    File(#[from] protected::Error),
    /// The file has mistakes.
    #[error(transparent)]
    Text(#[from] Mistakes),
}

impl Keys {
    /// Reads a key file. The file must belong to the process's user or to root, and group and
    /// others must have no access.
    ///
    /// # Errors
    /// If the file cannot be read, is not protected, or has mistakes.
    pub fn load(path: &Path, purpose: Purpose) -> Result<Self, Error> {
        let text = protected::read(path, "key file", LONGEST)?;
        Ok(Self::parse(&path.display().to_string(), &text, purpose)?)
    }

    /// Parses the text of a key file; `file` is its name in mistakes.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(file: &str, text: &[u8], purpose: Purpose) -> Result<Self, Mistakes> {
        // With room for every id, so that no key is left behind when the list grows.
        let mut parsed = Parser { keys: Vec::with_capacity(256), sign: None };
        let mut mistakes = Vec::new();
        let mut lines = 1;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            lines = number;
            if let Err(message) = parsed.line(number, line) {
                mistakes.push(Mistake { file: file.to_owned(), line: number, message });
            }
        }
        if mistakes.is_empty()
            && let Err(message) = parsed.check(purpose)
        {
            mistakes.push(Mistake { file: file.to_owned(), line: lines, message });
        }
        match mistakes.is_empty() {
            true => Ok(parsed.finish()),
            false => Err(Mistakes(mistakes)),
        }
    }

    /// Returns the keys with their ids; every id occurs once.
    pub fn all(&self) -> &[(u8, [u8; KEY])] {
        &self.keys
    }

    /// Returns the id of the key that signs.
    pub fn sign_with(&self) -> Option<u8> {
        self.sign
    }
}

/// Formats the ids only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(|(id, _)| id).collect();
        f.debug_struct("Keys").field("ids", &ids).field("sign", &self.sign).finish_non_exhaustive()
    }
}

/// The result of the lines parsed so far.
#[derive(Default)]
struct Parser {
    /// The keys, each with its line number.
    keys: Vec<(usize, u8, [u8; KEY])>,
    /// The line number and id of the key that signs.
    sign: Option<(usize, u8)>,
}

impl Drop for Parser {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

/// The expected form of a line, for messages.
const LINE: &str = "expected ID HEX [sign], such as `7 000102030405060708090a0b0c0d0e0f`";

impl Parser {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let end = line.iter().position(|byte| *byte == b'#').unwrap_or(line.len());
        let Ok(line) = std::str::from_utf8(&line[..end]) else {
            return Err(format!("is not text; {LINE}"));
        };
        let mut words = line.split_whitespace();
        let Some(id) = words.next() else { return Ok(()) };
        let id = parse_id(id)?;
        let key = parse_key(words.next().ok_or(format!("there is no key; {LINE}"))?)?;
        let sign = match words.next() {
            None => false,
            Some("sign") => true,
            Some(_) => return Err("the third word is another; expected `sign`, or none".to_owned()),
        };
        if words.next().is_some() {
            return Err("there is a fourth word; expected the end of the line".to_owned());
        }
        if let Some((first, ..)) = self.keys.iter().find(|(_, known, _)| *known == id) {
            return Err(format!("line {first} has a key with id {id}; expected each id once"));
        }
        self.keys.push((number, id, key));
        if sign {
            if let Some((first, _)) = self.sign {
                return Err(format!("the key on line {first} signs; expected one that does"));
            }
            self.sign = Some((number, id));
        }
        Ok(())
    }

    /// Checks what can be known only at the end of the file.
    fn check(&self, purpose: Purpose) -> Result<(), String> {
        if self.keys.is_empty() {
            return Err(format!("the file ends without a key; {LINE}"));
        }
        if purpose == Purpose::Sign && self.sign.is_none() {
            let what = "the file ends without a key that signs";
            return Err(format!("{what}; expected `sign` after one key, as a gateway signs"));
        }
        Ok(())
    }

    fn finish(self) -> Keys {
        let keys = self.keys.iter().map(|(_, id, key)| (*id, *key)).collect();
        Keys { keys, sign: self.sign.map(|(_, id)| id) }
    }
}

fn parse_id(word: &str) -> Result<u8, String> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let id = word.parse().ok().filter(|_| digits);
    id.ok_or("the first word is no key id; expected an integer from 0 to 255".to_owned())
}

fn parse_key(word: &str) -> Result<[u8; KEY], String> {
    let expected = "expected exactly 32 hexadecimal digits";
    if let Some(at) = word.chars().position(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("character {} of the key is no hexadecimal digit; {expected}", at + 1));
    }
    if word.len() != 2 * KEY {
        return Err(format!("the key has {} digits; {expected}", word.len()));
    }
    let mut key = [0; KEY];
    for (byte, pair) in key.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
        *byte = value(pair[0]) << 4 | value(pair[1]);
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
