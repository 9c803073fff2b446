//! Maglev consistent hashing (Eisenbud et al., NSDI 2016, section 3.4) with weights: selects the
//! server for a client endpoint (op 314).

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// The size of the lookup table: a prime, and more than 100 times the most servers of a service.
const SIZE: usize = 16_381;

/// The key that selections have without another: public, so that all switches of a service select the
/// same server. Whoever knows the key can choose ports for which all of his connections come to one
/// server.
pub const PUBLIC_KEY: (u64, u64) = (0x6669_7273_7461_636b, 0x6d61_676c_6576);

/// The lookup table of one service: maps client endpoints to servers.
///
/// # Examples
/// ```
/// use pipeline::policy::maglev::Maglev;
///
/// let table = Maglev::new([("web1", 1), ("web2", 3), ("drained", 0)]).unwrap();
/// let client = "198.18.1.10".parse().unwrap();
/// let server = table.select(client, 40000);
/// assert!(server < 2);
/// assert_eq!(table.select(client, 40000), server);
/// assert!(Maglev::new([("drained", 0)]).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Maglev {
    table: Box<[u16]>,
    key: (u64, u64),
}

impl Maglev {
    /// Returns the table of servers given by name and weight, under the public key. A server's share of
    /// the clients is proportional to its weight; `None` when every weight is zero.
    pub fn new<'a>(servers: impl IntoIterator<Item = (&'a str, u32)>) -> Option<Self> {
        Self::keyed(servers, PUBLIC_KEY)
    }

    /// Returns the table under a key. Switches with the same key and servers select the same server.
    pub fn keyed<'a>(
        servers: impl IntoIterator<Item = (&'a str, u32)>,
        key: (u64, u64),
    ) -> Option<Self> {
        let servers: Vec<_> = servers.into_iter().collect();
        let heaviest = servers.iter().map(|(_, weight)| *weight).max().filter(|&max| max > 0)?;
        let permutation = |name: &str| {
            let hash = |salt: u8| {
                let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
                hasher.write_u8(salt);
                hasher.write(name.as_bytes());
                hasher.finish() as usize
            };
            (hash(0) % SIZE, hash(1) % (SIZE - 1) + 1)
        };
        let permutations: Vec<_> = servers.iter().map(|(name, _)| permutation(name)).collect();
        let mut next = vec![0usize; servers.len()];
        let mut credit = vec![0u32; servers.len()];
        let mut table = vec![u16::MAX; SIZE];
        let mut filled = 0;
        // In each round every server takes the next free place of its permutation; a server of half
        // the heaviest weight takes part in every second round.
        'rounds: loop {
            for (number, (_, weight)) in servers.iter().enumerate() {
                credit[number] += weight;
                if credit[number] < heaviest {
                    continue;
                }
                credit[number] -= heaviest;
                let (offset, skip) = permutations[number];
                let place = loop {
                    let place = (offset + next[number] * skip) % SIZE;
                    next[number] += 1;
                    if table[place] == u16::MAX {
                        break place;
                    }
                };
                table[place] = number as u16;
                filled += 1;
                if filled == SIZE {
                    break 'rounds;
                }
            }
        }
        Some(Self { table: table.into_boxed_slice(), key })
    }

    /// Returns the number of the server for a client endpoint.
    pub fn select(&self, client: IpAddr, port: u16) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match client {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
        }
        hasher.write_u16(port);
        usize::from(self.table[hasher.finish() as usize % SIZE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(table: &Maglev, servers: usize) -> Vec<usize> {
        let mut shares = vec![0; servers];
        table.table.iter().for_each(|&server| shares[usize::from(server)] += 1);
        shares
    }

    #[test]
    fn shares_follow_the_weights() {
        let table = Maglev::new([("a", 1), ("b", 2), ("c", 1), ("idle", 0)]).unwrap();
        let shares = shares(&table, 4);
        for (share, part) in shares.iter().zip([0.25, 0.5, 0.25, 0.0]) {
            let expected = SIZE as f64 * part;
            assert!((*share as f64 - expected).abs() <= expected * 0.01 + 1.0, "{shares:?}");
        }
        assert!(Maglev::new([("a", 0)]).is_none());
        assert!(Maglev::new([]).is_none());
    }

    #[test]
    fn the_removal_of_a_server_moves_few_clients_of_others() {
        let names: Vec<String> = (0..10).map(|n| format!("web{n}")).collect();
        let before = Maglev::new(names.iter().map(|name| (name.as_str(), 1))).unwrap();
        let weight = |number| u32::from(number != 3);
        let all = names.iter().enumerate().map(|(number, name)| (name.as_str(), weight(number)));
        let after = Maglev::new(all).unwrap();
        let moved = (0..SIZE)
            .filter(|&i| before.table[i] != 3 && before.table[i] != after.table[i])
            .count();
        assert!(moved < SIZE / 20, "{moved} of {SIZE} moved");
        assert!(after.table.iter().all(|&server| server != 3));
    }

    #[test]
    fn ports_chosen_for_one_key_spread_under_another() {
        let servers = || [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        let (public, own) =
            (Maglev::new(servers()).unwrap(), Maglev::keyed(servers(), (1, 2)).unwrap());
        let client = IpAddr::from([192, 0, 2, 66]);
        let chosen: Vec<u16> = (1024..20_000).filter(|p| public.select(client, *p) == 2).collect();
        let mut shares = [0usize; 4];
        chosen.iter().for_each(|port| shares[own.select(client, *port)] += 1);
        let even = chosen.len() / 4;
        assert!(shares.iter().all(|share| share.abs_diff(even) < even / 5), "{shares:?}");
        let same = Maglev::keyed(servers(), (1, 2)).unwrap();
        assert!(chosen.iter().all(|p| own.select(client, *p) == same.select(client, *p)));
    }

    #[test]
    fn selection_spreads_over_clients() {
        let table = Maglev::new([("a", 1), ("b", 1)]).unwrap();
        let first = (0..1000u32)
            .filter(|n| table.select(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 4000) == 0)
            .count();
        assert!((400..600).contains(&first), "{first}");
    }
}
