//! The Toeplitz hash, which NICs use to distribute packets over receive queues (Microsoft RSS
//! specification), in software.
//!
//! The owner of a packet must be the same whether a NIC or a worker determines it, so both compute
//! this hash of the client's address alone, under one key.
//!
//! # The key
//! The key has a period of 32 bits. So an address has the same hash at any offset that is a
//! multiple of four among the bytes that the NIC hashes: a source alone, a destination alone, or
//! either of them in its usual place with zeros in the other's. This is all that hashing a single
//! address needs. A period of 16 bits, which also makes the hash of *both* addresses and ports
//! symmetric, would lose half of an IPv4 address: its two halves are XORed before anything else
//! happens to them, and all of `10.7.10.7`, `10.8.10.8`, ... would share a queue. The four words of
//! an IPv6 address are XORed here; mostly a client varies only one of them.
//!
//! # The distribution
//! NICs use the lowest 6 to 11 bits of the hash. Under a periodic key these are a linear map of the
//! address's 32 bits. Every 32-bit word of odd weight keeps all information of the address (the map
//! is one to one). The words in use are those under which *any* eight adjacent bits of the address give all
//! 256 values of the lowest eight bits of the hash: clients with consecutive addresses, a /24, or a
//! /16 in steps of 256, are distributed over 2, 4, ..., 256 queues in exactly equal shares, and
//! over other numbers of queues as evenly as 256 entries allow. The usual word, `0x6d5a`, does so
//! at 10 of the 25 positions of eight adjacent bits. The tests below count this.
//!
//! # The secret
//! Who knows the word can choose addresses that all belong to one worker. So a word is drawn at
//! start among the million or so that distribute evenly, and is logged nowhere.

use std::net::IpAddr;

/// A word that distributes evenly, for tests and benchmarks, which need no secret.
const WORD: u32 = 0x6d05_2bbd;
/// The most words that are drawn. One in 4,400 distributes evenly.
const DRAWS: usize = 1 << 18;

/// The Toeplitz hash of addresses under a key that repeats one word.
///
/// # Examples
/// ```
/// use firstack::datapath::rss::toeplitz::{Toeplitz, toeplitz};
///
/// let hash = Toeplitz::default();
/// let client = std::net::Ipv4Addr::new(198, 18, 1, 10);
/// assert_eq!(hash.of_address(client.into()), toeplitz(hash.key(), &client.octets()));
/// ```
#[derive(Clone)]
pub struct Toeplitz {
    /// As long as the longest key of any NIC in use.
    key: [u8; 64],
    /// The hash of each value of each byte of a 32-bit word.
    bytes: [[u32; 256]; 4],
}

/// Keeps the key out of logs.
impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

impl Default for Toeplitz {
    fn default() -> Self {
        Self::of_word(WORD)
    }
}

impl Toeplitz {
    /// Returns the hash under a word drawn from a source of random words, which must be unguessable.
    pub fn drawn(mut random: impl FnMut() -> u32) -> Self {
        let word = (0..DRAWS).map(|_| random()).find(|word| distributes_evenly(*word));
        Self::of_word(word.unwrap_or(WORD))
    }

    /// Returns the hash under a word that an earlier process has drawn; `None` if it is not one that
    /// distributes evenly.
    pub fn kept(word: u32) -> Option<Self> {
        distributes_evenly(word).then(|| Self::of_word(word))
    }

    /// Returns the word, which is a secret.
    pub fn word(&self) -> u32 {
        u32::from_be_bytes([self.key[0], self.key[1], self.key[2], self.key[3]])
    }

    fn of_word(word: u32) -> Self {
        let repeated = word.to_be_bytes();
        let key = std::array::from_fn(|at| repeated[at % 4]);
        let bytes = std::array::from_fn(|place| {
            std::array::from_fn(|value| {
                let mut input = [0; 4];
                input[place] = value as u8;
                toeplitz(&key, &input)
            })
        });
        Self { key, bytes }
    }

    /// Returns the key for a NIC.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the hash of one address.
    #[inline]
    pub fn of_address(&self, address: IpAddr) -> u32 {
        let word = match address {
            IpAddr::V4(address) => address.to_bits(),
            // The key repeats after each word, so all four words have the same hashes as the first.
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
            }
        };
        let bytes = word.to_be_bytes();
        self.bytes.iter().zip(bytes).fold(0, |hash, (table, byte)| hash ^ table[usize::from(byte)])
    }
}

/// Returns whether a word, repeated, maps any eight adjacent bits of an address one to one to the
/// lowest eight bits of the hash, and the whole address one to one to the whole hash.
fn distributes_evenly(word: u32) -> bool {
    // The hash of an address whose only one bit is this one.
    let of_bit = |bit: u32| word.rotate_left(31 - bit) & 0xff;
    word.count_ones() % 2 == 1 && (0..=24).all(|from| are_independent((from..from + 8).map(of_bit)))
}

/// Returns whether vectors of eight bits are linearly independent.
fn are_independent(vectors: impl Iterator<Item = u32>) -> bool {
    // By the highest bit.
    let mut basis = [0u32; 8];
    for mut vector in vectors {
        loop {
            let Some(highest) = vector.checked_ilog2() else { return false };
            let known = &mut basis[highest as usize];
            if *known == 0 {
                *known = vector;
                break;
            }
            vector ^= *known;
        }
    }
    true
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
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The key in the Microsoft RSS specification, "Verifying the RSS hash calculation".
    const MICROSOFT: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Source and port, destination and port; the hash of the addresses, the hash of addresses and
    /// ports.
    type Vector = (&'static str, u16, &'static str, u16, u32, u32);

    const VECTORS: [Vector; 8] = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    fn bytes(address: &str) -> Vec<u8> {
        match address.parse().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    #[test]
    fn microsofts_hashes() {
        for (source, from, destination, to, addresses, ports) in VECTORS {
            let mut input = [bytes(source), bytes(destination)].concat();
            assert_eq!(toeplitz(&MICROSOFT, &input), addresses, "{source} > {destination}");
            input.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
            assert_eq!(toeplitz(&MICROSOFT, &input), ports, "{source}:{from} > {destination}:{to}");
        }
    }

    #[test]
    fn an_address_has_one_hash_wherever_a_card_puts_it() {
        for (source, _, destination, ..) in VECTORS {
            for address in [source, destination] {
                let own = Toeplitz::default();
                let hash = own.of_address(address.parse().unwrap());
                let alone = bytes(address);
                let other = vec![0; alone.len()];
                assert_eq!(toeplitz(own.key(), &alone), hash, "{address} alone");
                let first = [&alone[..], &other[..]].concat();
                let last = [&other[..], &alone[..]].concat();
                assert_eq!(toeplitz(own.key(), &first), hash, "{address} as the source");
                assert_eq!(toeplitz(own.key(), &last), hash, "{address} as the destination");
            }
        }
    }

    /// Returns how many of `clients` the fullest and the emptiest of `queues` queues get, with a
    /// table of `entries` entries.
    fn extremes(
        hash: &Toeplitz,
        clients: impl Iterator<Item = IpAddr>,
        entries: u32,
        queues: usize,
    ) -> (usize, usize) {
        let mut shares = vec![0; queues];
        clients
            .for_each(|client| shares[(hash.of_address(client) % entries) as usize % queues] += 1);
        (*shares.iter().max().unwrap(), *shares.iter().min().unwrap())
    }

    /// Returns `count` addresses from `first` on, `step` apart.
    fn v4(first: [u8; 4], step: u32, count: u32) -> impl Iterator<Item = IpAddr> {
        let first = u32::from_be_bytes(first);
        (0..count).map(move |n| Ipv4Addr::from_bits(first + n * step).into())
    }

    #[test]
    fn clients_are_spread_evenly() {
        spreads_evenly(&Toeplitz::default());
    }

    #[test]
    fn clients_are_spread_evenly_under_each_word_that_is_drawn() {
        let mut words = std::collections::HashSet::new();
        for seed in 1..=4 {
            let hash = Toeplitz::drawn(random(seed));
            spreads_evenly(&hash);
            words.insert(hash.key()[..4].to_vec());
            let again = Toeplitz::drawn(random(seed));
            assert_eq!(hash.key(), again.key(), "a seed gives a word");
            assert_eq!(format!("{hash:?}"), "Toeplitz { .. }");
        }
        assert_eq!(words.len(), 4, "each seed another");
        assert_eq!(Toeplitz::drawn(|| 0x6d5a_6d5a).key(), Toeplitz::default().key());
    }

    /// Returns a sequence of words (xorshift) that a seed decides.
    fn random(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        }
    }

    fn spreads_evenly(hash: &Toeplitz) {
        for entries in [64, 128, 512, 2048] {
            for queues in [2, 4, 8, 16, 32, 64] {
                let even = (256 / queues, 256 / queues);
                // Any eight adjacent bits of the address.
                for place in 0..=24 {
                    let some = v4([0, 0, 0, 0], 1 << place, 256);
                    assert_eq!(extremes(hash, some, entries, queues), even, "bits from {place} on");
                }
            }
            for queues in [3, 5, 6, 7, 12] {
                for (what, clients, step) in
                    [("a /24", 256, 1), ("a /16", 65_536, 1), ("every 256th", 256, 256)]
                {
                    let (most, least) =
                        extremes(hash, v4([198, 18, 0, 0], step, clients), entries, queues);
                    let fair = clients as usize / queues;
                    // Of 64 entries, some of 12 queues get 6 and others 5.
                    let tolerance = fair / 4 + 8;
                    assert!(
                        most <= fair + tolerance && least + tolerance >= fair,
                        "{what}, {entries} entries, {queues} queues: {least} to {most}"
                    );
                }
            }
        }
    }

    #[test]
    fn clients_of_ipv6_are_spread_evenly() {
        // One client in each /64, and one in each /48.
        for shift in [64, 80] {
            let prefix = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
            let clients = (0..256).map(|n| IpAddr::from(Ipv6Addr::from(prefix | n << shift)));
            assert_eq!(extremes(&Toeplitz::default(), clients, 512, 4), (64, 64));
        }
    }

    #[test]
    fn nothing_of_an_address_is_lost() {
        // A linear map of odd weight under a cyclic key is one to one.
        assert_eq!(WORD.count_ones() % 2, 1);
        let hashes: std::collections::HashSet<_> = v4([10, 0, 0, 0], 0x0001_0001, 4096)
            .map(|client| Toeplitz::default().of_address(client))
            .collect();
        assert_eq!(hashes.len(), 4096, "halves that change together");
    }
}
