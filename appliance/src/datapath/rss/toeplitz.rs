//! The Toeplitz hash, which NICs use to distribute packets over receive queues (Microsoft RSS
//! specification), in software.
//!
//! The owner of a packet must be the same whether a NIC or a worker determines it. It follows from the
//! client's address alone, which is the source on one port and the destination on the other. So each port
//! gets a key of its own, and the low bits of its hash are those of the client's address alone. There are
//! two ways.
//!
//! # By the key
//! For ports that hash source and destination address, and the TCP or UDP ports as well if they like.
//! Input bit i of a Toeplitz hash contributes the key's bits i to i + 31. A table of 2^b entries is
//! indexed by the hash's b lowest bits, so only the last b of these 32 bits matter. The key is zero except
//! for one word of 33 - b bits, whose bit m is the key's bit
//!
//! | address | first bit of the word | key bits that must be zero (b = 7) |
//! |---|---|---|
//! | IPv4 source (input bits 0 to 31) | 31 | 57 to 126: destination and ports |
//! | IPv4 destination (32 to 63) | 63 | 25 to 62, 89 to 126: source and ports |
//!
//! Then hash bit p, the lowest being 0, is the XOR over j of the address's bit j and the word's bit j - p,
//! the same function on both ports; each address bit counts in some hash bit, and nothing else does. It
//! holds for whatever a card hashes of an IPv4 packet: TCP, UDP, ICMP, the first and later fragments.
//!
//! Under such a key only one address family can be steered. An IPv6 packet has its source where an IPv4
//! packet has its destination, and hashes more bits than there are places without conflict. Further copies
//! of the word, behind all that IPv4 reaches, distribute IPv6 evenly by addresses and ports. The
//! owner of an IPv6 client is determined in software, and follows from a hash that the word keys: whoever
//! has many addresses, as everybody has with IPv6, cannot choose those of one worker.
//!
//! # One address
//! For ports that can be told to hash one address alone, in both families. The key has a period of 32
//! bits, so an address has the same hash at any offset that is a multiple of four among the bytes that the
//! NIC hashes: alone, or in its usual place with zeros in the other's. The four words of an IPv6 address
//! are XORed by this. Mostly a client varies only one of them; one that varies two alike stays with one
//! worker, whatever the word is. A period of 16 bits would XOR the halves of
//! an IPv4 address as well: `10.7.10.7`, `10.8.10.8`, ... would share a queue.
//!
//! Which words are used, and how evenly they distribute: [`super::words`].

use std::net::IpAddr;

use pipeline::wire::family::Version;

use super::words::{self, LEAST_BITS, MOST_BITS};

/// Bytes of a key: as many as the longest key of any NIC in use.
const KEY: usize = 64;
/// Where the word is in the key of the port on which the client is the source. The first place is that of
/// an IPv4 source. The others distribute IPv6: the last word of the source, the destination, the ports.
const SOURCE_PLACES: [usize; 7] = [31, 127, 159, 191, 223, 255, 287];
/// Likewise for the destination; the first place is that of an IPv4 destination.
const DESTINATION_PLACES: [usize; 6] = [63, 159, 191, 223, 255, 287];

/// The longest table that a periodic word distributes evenly over, as its words are chosen by eight bits.
const PERIODIC_ENTRIES: u32 = 256;

/// The hash of clients' addresses, and the keys under which ports compute it.
///
/// # Examples
/// ```
/// use firstack::datapath::rss::toeplitz::{Toeplitz, toeplitz};
///
/// let hash = Toeplitz::default();
/// // Source and destination address, source and destination port.
/// let packet = [198, 18, 1, 10, 203, 0, 113, 1, 0x9c, 0x40, 0, 80];
/// let client = std::net::Ipv4Addr::new(198, 18, 1, 10);
/// let index = toeplitz(hash.source_key(), &packet) & (hash.most_entries() - 1);
/// assert_eq!(hash.of_address(client.into()), index);
/// ```
#[derive(Clone)]
pub struct Toeplitz {
    word: u32,
    /// Whether ports must hash one address alone.
    is_of_one_address: bool,
    source: [u8; KEY],
    destination: [u8; KEY],
    /// The hash of each value of each byte of a 32-bit word.
    bytes: [[u16; 256]; 4],
    /// A factor for each word of an IPv6 address, if no port computes its hash.
    factors: [u64; 4],
    most_entries: u32,
}

/// Keeps the keys out of logs.
impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

/// By the key, for tables of 128 entries, under a word that is no secret.
impl Default for Toeplitz {
    fn default() -> Self {
        Self::of_placed(words::placed(7), 7)
    }
}

impl Toeplitz {
    /// Returns the hash by the key for tables of 2^`bits` entries, under a word drawn from a source of
    /// random words, which must be unguessable.
    ///
    /// # Panics
    /// If `bits` is not 6 to 11.
    pub fn by_key(bits: u32, random: impl FnMut() -> u32) -> Self {
        assert!((LEAST_BITS..=MOST_BITS).contains(&bits));
        Self::of_placed(words::draw_placed(bits, random), bits)
    }

    /// Returns the hash by the key under a word that an earlier process has drawn; `None` if it is not
    /// regular, or of other tables.
    pub fn by_kept_key(bits: u32, word: u32) -> Option<Self> {
        words::is_regular(word, bits).then(|| Self::of_placed(word, bits))
    }

    /// Returns the hash of one address under a word drawn likewise.
    pub fn of_one_address(random: impl FnMut() -> u32) -> Self {
        Self::of_periodic(words::draw_periodic(random))
    }

    /// Returns the hash of one address under a word that an earlier process has drawn; `None` if it does
    /// not distribute evenly.
    pub fn of_one_address_kept(word: u32) -> Option<Self> {
        words::is_good_periodic(word).then(|| Self::of_periodic(word))
    }

    fn of_placed(word: u32, bits: u32) -> Self {
        let key = |places: &[usize]| {
            let mut key = [0; KEY];
            places.iter().for_each(|&place| place_word(&mut key, place, word));
            key
        };
        Self::new(word, false, key(&SOURCE_PLACES), key(&DESTINATION_PLACES), 1 << bits)
    }

    fn of_periodic(word: u32) -> Self {
        let repeated = word.to_be_bytes();
        let key = std::array::from_fn(|at| repeated[at % 4]);
        Self::new(word, true, key, key, PERIODIC_ENTRIES)
    }

    fn new(
        word: u32,
        is_of_one_address: bool,
        source: [u8; KEY],
        destination: [u8; KEY],
        most_entries: u32,
    ) -> Self {
        let bytes = std::array::from_fn(|place| {
            std::array::from_fn(|value| {
                let mut input = [0; 4];
                input[place] = value as u8;
                (toeplitz(&source, &input) & (most_entries - 1)) as u16
            })
        });
        let mut state = u64::from(word);
        let factors = std::array::from_fn(|_| split_mix(&mut state) | 1);
        Self { word, is_of_one_address, source, destination, bytes, factors, most_entries }
    }

    /// Returns the word, which is a secret.
    pub fn word(&self) -> u32 {
        self.word
    }

    /// Returns whether ports must hash one address alone.
    pub fn is_of_one_address(&self) -> bool {
        self.is_of_one_address
    }

    /// Returns whether a port can compute the hash of a client of this family.
    pub fn is_computed_by_ports(&self, family: Version) -> bool {
        self.is_of_one_address || family == Version::V4
    }

    /// Returns the key of a port on which the client is the source.
    pub fn source_key(&self) -> &[u8] {
        &self.source
    }

    /// Returns the key of a port on which the client is the destination.
    pub fn destination_key(&self) -> &[u8] {
        &self.destination
    }

    /// Returns the length of the longest table that the hash can index.
    pub fn most_entries(&self) -> u32 {
        self.most_entries
    }

    /// Returns the hash of one address, below [`Toeplitz::most_entries`].
    #[inline]
    pub fn of_address(&self, address: IpAddr) -> u32 {
        let word = match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) if !self.is_of_one_address => {
                return self.of_ipv6(address.to_bits());
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
            }
        };
        let of_byte = |(table, byte): (&[u16; 256], u8)| table[usize::from(byte)];
        let hash = self.bytes.iter().zip(word.to_be_bytes()).map(of_byte).fold(0, |a, b| a ^ b);
        u32::from(hash)
    }

    /// Returns the hash of an IPv6 address that no port computes: a sum of its words, each times a secret
    /// factor, of which the upper half depends on all bits.
    #[inline]
    fn of_ipv6(&self, address: u128) -> u32 {
        let mut sum = 0_u64;
        for (number, factor) in self.factors.iter().enumerate() {
            sum = sum
                .wrapping_add(u64::from((address >> (32 * number)) as u32).wrapping_mul(*factor));
        }
        (sum >> 32) as u32 & (self.most_entries - 1)
    }
}

/// Returns the next number of a sequence that looks random (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Adds a word to a key, from bit `place` on.
fn place_word(key: &mut [u8; KEY], place: usize, word: u32) {
    for bit in (0..32).filter(|bit| word << bit >> 31 == 1) {
        let at = place + bit;
        key[at / 8] |= 0x80 >> (at % 8);
    }
}

/// Returns the Toeplitz hash of an input of up to `key.len() - 4` bytes: for each one bit of the
/// input, the key's 32 bits from the same position, XORed.
///
/// # Panics
/// If the key is too short.
pub const fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    assert!(key.len() >= input.len() + 4);
    let mut hash = 0;
    let mut at = 0;
    while at < input.len() {
        let mut bit = 0;
        while bit < 8 {
            if input[at] & (0x80 >> bit) != 0 {
                hash ^= window(key, at * 8 + bit);
            }
            bit += 1;
        }
        at += 1;
    }
    hash
}

/// Returns 32 bits of the key, starting at bit `from`.
const fn window(key: &[u8], from: usize) -> u32 {
    let mut bits = 0u64;
    let mut at = 0;
    while at < 5 {
        let next = from / 8 + at;
        bits = bits << 8 | if next < key.len() { key[next] as u64 } else { 0 };
        at += 1;
    }
    (bits >> (8 - from % 8)) as u32
}

#[cfg(test)]
mod tests;
