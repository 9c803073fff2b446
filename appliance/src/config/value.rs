//! Parsers of single values. An error is the end of a sentence about the value, such as `is not a
//! duration`; the reader puts the value before it and what is expected after it.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

/// A value, or what is wrong with it.
pub(crate) type Parsed<T> = Result<T, String>;

/// The bounds of durations.
pub const DURATIONS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 60 * 60);

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A key of a hash: 128 bits. Its debug output does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub (u64, u64));

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// Parses a key of 32 hexadecimal digits. The error does not repeat it.
pub(super) fn hash_key(value: &DeValue<'_>) -> Parsed<HashKey> {
    let text = value.as_str().ok_or_else(|| wrong_type(value))?;
    let is_key = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(text, 16) {
        Ok(key) if is_key => Ok(HashKey(((key >> 64) as u64, key as u64))),
        _ => Err("is no key".to_owned()),
    }
}

/// Returns the error for a value of the wrong TOML type.
pub(super) fn wrong_type(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "is a string",
        DeValue::Integer(_) => "is an integer",
        DeValue::Float(_) => "is a float",
        DeValue::Boolean(_) => "is a boolean",
        DeValue::Datetime(_) => "is a date or time",
        DeValue::Array(_) => "is a list",
        DeValue::Table(_) => "is a section",
    }
    .to_owned()
}

/// Parses a string of at least one character, without control characters.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Parsed<&'v str> {
    match value.as_str() {
        None => Err(wrong_type(value)),
        Some("") => Err("is empty".to_owned()),
        Some(text) if text.contains(char::is_control) => {
            Err("contains a control character".to_owned())
        }
        Some(text) => Ok(text),
    }
}

/// Parses an integer that is not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Parsed<u64> {
    let integer = value.as_integer().ok_or_else(|| wrong_type(value))?;
    u64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| "is out of range".to_owned())
}

/// Parses an integer within bounds.
pub(super) fn integer_in(value: &DeValue<'_>, min: u64, max: u64) -> Parsed<u64> {
    integer(value).and_then(|number| match (min..=max).contains(&number) {
        true => Ok(number),
        false => Err("is out of range".to_owned()),
    })
}

/// Parses `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| wrong_type(value))
}

/// Parses a duration within [`DURATIONS`].
pub(super) fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    let duration =
        humantime::parse_duration(text(value)?).map_err(|_| "is not a duration".to_owned())?;
    match DURATIONS.contains(&duration) {
        true => Ok(duration),
        false => Err("is not between 1ms and 30 days".to_owned()),
    }
}

/// Parses the absolute path of a file.
pub(super) fn file(value: &DeValue<'_>) -> Parsed<PathBuf> {
    match text(value)? {
        path if !path.starts_with('/') => Err("is a relative path".to_owned()),
        path if path.ends_with('/') => Err("is a directory".to_owned()),
        path => Ok(path.into()),
    }
}

/// Parses a TCP port.
pub(super) fn port(value: &DeValue<'_>) -> Parsed<u16> {
    let number = integer_in(value, 1, u16::MAX.into())?;
    u16::try_from(number).map_err(|_| "is out of range".to_owned())
}

/// Parses a TCP option kind that is assigned to no other option: a host would misread the tag
/// otherwise.
pub(super) fn option_kind(value: &DeValue<'_>) -> Parsed<u8> {
    let number = integer_in(value, 0, u8::MAX.into())?;
    let kind = u8::try_from(number).map_err(|_| "is out of range".to_owned())?;
    let owner = match kind {
        0 => "End of Option List",
        1 => "No-Operation",
        2 => "Maximum Segment Size",
        3 => "Window Scale",
        4 => "SACK Permitted",
        5 => "SACK",
        8 => "Timestamps",
        19 => "MD5 Signature",
        29 => "TCP-AO",
        30 => "Multipath TCP",
        34 => "TCP Fast Open",
        _ => return Ok(kind),
    };
    Err(format!("is the TCP option {owner}"))
}

/// Parses a name for counters, logs and commands, which contains no blanks.
pub(super) fn label(value: &DeValue<'_>) -> Parsed<String> {
    let label = text(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    match label.len() {
        ..=64 if label.chars().all(fits) => Ok(label.to_owned()),
        ..=64 => Err("has other characters".to_owned()),
        _ => Err("is too long".to_owned()),
    }
}

/// Parses a unicast MAC address.
pub(super) fn mac(value: &DeValue<'_>) -> Parsed<MacAddress> {
    let text = text(value)?;
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let hex = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .ok_or_else(|| "is not a MAC address".to_owned())?;
    }
    if parts.next().is_some() {
        return Err("is not a MAC address".to_owned());
    }
    match bytes {
        [0, 0, 0, 0, 0, 0] => Err("is the zero address".to_owned()),
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => Err("is the broadcast address".to_owned()),
        [first, ..] if first & 1 == 1 => Err("is a multicast address".to_owned()),
        _ => Ok(MacAddress(bytes)),
    }
}

/// Parses an address that a single host can have.
pub(super) fn address(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let text = text(value)?;
    let address = text.parse().map_err(|_| match text.parse::<IpNet>() {
        Ok(_) => "is a prefix".to_owned(),
        Err(_) => "is not an IP address".to_owned(),
    })?;
    unicast(address).map(|()| address)
}

/// Parses an address, or a prefix whose host bits are zero.
pub(super) fn prefix(value: &DeValue<'_>) -> Parsed<IpNet> {
    let text = text(value)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return unicast(address).map(|()| address.into());
    }
    let prefix: IpNet = text.parse().map_err(|_| "is not an IP address or prefix".to_owned())?;
    if prefix.addr() != prefix.network() {
        return Err(format!("has host bits set, its prefix is {}", prefix.trunc()));
    }
    // A prefix may begin at an address that no host has (10.0.0.0/8, ::/0). Only a prefix that
    // contains nothing but such addresses is a mistake.
    match unicast(prefix.network()) {
        Err(complaint) if only_unusable(prefix) => Err(complaint),
        _ => Ok(prefix),
    }
}

/// Returns whether no host can have an address of this prefix.
fn only_unusable(prefix: IpNet) -> bool {
    match prefix {
        _ if prefix.prefix_len() == prefix.max_prefix_len() => true,
        IpNet::V4(v4) => {
            let net = v4.network();
            (net.is_multicast() && v4.prefix_len() >= 4)
                || ((net.is_loopback() || net.octets()[0] == 0) && v4.prefix_len() >= 8)
        }
        IpNet::V6(v6) => {
            let net = v6.network();
            (net.is_multicast() && v6.prefix_len() >= 8)
                || (net.is_unicast_link_local() && v6.prefix_len() >= 10)
                || (net.to_ipv4_mapped().is_some() && v6.prefix_len() >= 96)
        }
    }
}

/// Checks that a single host, other than this one, can have the address.
pub(crate) fn unicast(address: IpAddr) -> Parsed<()> {
    let complaint = match address {
        _ if address.is_unspecified() => "is the unspecified address",
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "is in 0.0.0.0/8, which no host has",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is a link-local address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address written as IPv6",
        _ => return Ok(()),
    };
    Err(complaint.to_owned())
}

/// Returns a prefix for messages, as an address if it contains only one.
pub(super) fn shown_prefix(prefix: IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

/// Returns the family of an address, for messages.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
