//! Keyed hashes of clients, for arrays of fixed size that give each client a share of something.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// Prefix lengths of clients: IPv4, IPv6.
const PREFIX: [u32; 2] = [24, 48];
/// Prefix lengths of networks: IPv4, IPv6.
const NETWORK: [u32; 2] = [24, 64];
/// Prefix lengths of hosts: IPv4, IPv6. A host of IPv6 may have 64 bits of its own.
const HOST: [u32; 2] = [32, 64];
/// Lengths of addresses: IPv4, IPv6.
const ADDRESS: [u32; 2] = [32, 128];

/// A keyed hash of client addresses: who does not know the key cannot choose two clients that fall
/// together.
///
/// # Examples
/// ```
/// use pipeline::policy::clients::ClientHash;
///
/// let hash = ClientHash::new((1, 2));
/// let [one, other] = ["198.18.1.10", "198.18.1.99"].map(|text| text.parse().unwrap());
/// assert_eq!(hash.prefix(one), hash.prefix(other));
/// assert_ne!(hash.host(one), hash.host(other));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClientHash {
    key: (u64, u64),
}

impl ClientHash {
    /// Returns the hash under this key, which must be secret.
    pub fn new(key: (u64, u64)) -> Self {
        Self { key }
    }

    /// Returns the hash of a client's prefix: 24 bits of IPv4, 48 of IPv6.
    pub fn prefix(&self, client: IpAddr) -> u32 {
        self.of(client, PREFIX)
    }

    /// Returns the hash of a client's network: 24 bits of IPv4, 64 of IPv6.
    pub fn network(&self, client: IpAddr) -> u32 {
        self.of(client, NETWORK)
    }

    /// Returns the hash of a client's address.
    pub fn address(&self, client: IpAddr) -> u32 {
        self.of(client, ADDRESS)
    }

    /// Returns the hash of a host: an address of IPv4, 64 bits of IPv6.
    pub fn host(&self, client: IpAddr) -> u32 {
        self.of(client, HOST)
    }

    fn of(&self, client: IpAddr, length: [u32; 2]) -> u32 {
        let mut hasher = self.hasher(0);
        match client {
            IpAddr::V4(client) => hasher.write_u32(client.to_bits() >> (32 - length[0])),
            IpAddr::V6(client) => hasher.write_u128(client.to_bits() >> (128 - length[1])),
        }
        hasher.finish() as u32
    }

    /// Returns a hasher under the key, for this purpose.
    pub(super) fn hasher(&self, purpose: u8) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(purpose);
        hasher
    }
}
