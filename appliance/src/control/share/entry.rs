//! What the store holds, and what of it is accepted: other hosts can write there.
//!
//! ```text
//! key    firstack:shop:v4
//! field  198.51.100.0/24
//! value  {"address":"198.51.100.10","direct_us":9800,"heard":1790000000,"gateway":"5f2c..."}
//! ```

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use pipeline::wire::family::Version;
use serde::{Deserialize, Serialize};

use crate::config;

/// The longest field in bytes: the longest IPv6 prefix, and more.
pub const LONGEST_FIELD: usize = 64;
/// The longest value in bytes.
pub const LONGEST_VALUE: usize = 512;
/// The longest direct time that is accepted, in microseconds.
const LONGEST_TIME: u64 = 60_000_000;
/// The longest name of a gateway in bytes.
const LONGEST_NAME: usize = 32;
/// By how much clocks of gateways may differ: an entry that is newer is refused.
const CLOCKS: Duration = Duration::from_secs(60);

/// A site, as a gateway writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The address that is asked.
    pub address: IpAddr,
    /// The smoothed time to its answers to direct copies, in microseconds, if it has any.
    pub direct_us: Option<u64>,
    /// The last answer, in seconds since 1970.
    pub heard: u64,
    /// The gateway that wrote it: a random number of the process.
    pub gateway: String,
}

/// A service and family: one hash of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// The key.
    pub key: String,
    /// The number of the service.
    pub service: u16,
    /// The family of all its addresses.
    pub version: Version,
    /// The addresses that replicas may have.
    pub allowed: Vec<IpNet>,
    /// How long an entry is used after it was heard.
    pub memory: Duration,
    /// The length of the prefix that tells a site, in bits.
    pub site_prefix: u8,
}

/// Why an entry of the store is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The field is no prefix, or too long.
    #[error("a field that is no prefix")]
    Field,
    /// The value is not JSON of an entry, or too long.
    #[error("a value that is no entry")]
    Value,
    /// The address is not in the field's prefix.
    #[error("an address outside its site's prefix")]
    Prefix,
    /// The address is of the other family, not unicast, or not in `allowed_replicas`.
    #[error("an address that is not in allowed_replicas")]
    Address,
    /// The direct time is longer than any that is measured.
    #[error("a direct time of more than a minute")]
    Time,
    /// The entry was heard in the future.
    #[error("an entry from the future: a gateway's clock is wrong")]
    Clock,
    /// The hash has too many fields.
    #[error("a hash with more than 32 fields")]
    Fields,
    /// The key is no hash.
    #[error("a key that is no hash")]
    Type,
}

/// An entry that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It may be used.
    Fresh(Entry),
    /// It is older than the service's memory.
    Expired,
}

impl Entry {
    /// Returns the value that is stored.
    pub fn value(&self) -> String {
        // It consists of numbers and plain text, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns whether it says more than another gateway's entry of the same site: a direct time,
    /// or a later answer.
    pub fn says_more(&self, other: &Self) -> bool {
        (self.direct_us.is_some(), self.heard) >= (other.direct_us.is_some(), other.heard)
    }
}

impl Hash {
    /// Returns the field of a replica's site.
    pub fn field(&self, address: IpAddr) -> String {
        IpNet::new(address, self.site_prefix).map_or_else(
            // No prefix is longer than an address: the configuration is checked.
            |_| IpNet::from(address).to_string(),
            |site| site.trunc().to_string(),
        )
    }

    /// Checks a field and its value, which anyone may have written; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, field: &[u8], value: &[u8], now: u64) -> Result<Read, Refused> {
        let site = std::str::from_utf8(field).ok().filter(|field| field.len() <= LONGEST_FIELD);
        let site: IpNet = site.and_then(|site| site.parse().ok()).ok_or(Refused::Field)?;
        if value.len() > LONGEST_VALUE {
            return Err(Refused::Value);
        }
        let entry: Entry = serde_json::from_slice(value).map_err(|_| Refused::Value)?;
        let gateway = entry.gateway.as_bytes();
        if !(1..=LONGEST_NAME).contains(&gateway.len())
            || !gateway.iter().all(u8::is_ascii_alphanumeric)
        {
            return Err(Refused::Value);
        }
        if !site.contains(&entry.address) {
            return Err(Refused::Prefix);
        }
        if !self.allows(entry.address) {
            return Err(Refused::Address);
        }
        if entry.direct_us.is_some_and(|time| time > LONGEST_TIME) {
            return Err(Refused::Time);
        }
        if entry.heard > now.saturating_add(CLOCKS.as_secs()) {
            return Err(Refused::Clock);
        }
        match Duration::from_secs(now.saturating_sub(entry.heard)) < self.memory {
            true => Ok(Read::Fresh(entry)),
            false => Ok(Read::Expired),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        Version::of(address) == self.version
            && config::unicast(address).is_ok()
            && self.allowed.iter().any(|prefix| prefix.contains(&address))
    }
}

#[cfg(test)]
mod tests;
