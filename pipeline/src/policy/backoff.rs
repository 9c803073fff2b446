//! Back-off from destinations whose path drops tagged SYNs: SYNs to them stay untagged for a while.
//!
//! What counts is evidence, not silence. A race has *missed* when the origin answered an untagged
//! retransmission after it had answered none of the tagged SYNs; a race that nobody answers says
//! nothing. One client cannot speak for others: its destination is given up for all only when three
//! client prefixes have missed, and for one network alone when three of its addresses have.
//!
//! The memory is an array of fixed size under a keyed hash, so nobody can fill it: new evidence
//! always finds a place, first at the cost of what the same client prefix has said before.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use super::clients::ClientHash;
use crate::base::time::Ticks;

/// The number of different witnesses on whose word a path is backed off from.
const WITNESSES: usize = 3;
/// The time for which a path is backed off from at first. Each confirmation doubles it.
const FIRST_SPAN: Ticks = Ticks::from_secs(10);
/// The time after which evidence is forgotten.
const MEMORY: Ticks = Ticks::from_secs(600);
/// One SYN in so many stays tagged in the back-off.
const PROBE_EVERY: u64 = 16;
/// Paths whose hashes fall together.
const WAYS: usize = 4;
/// The most paths remembered by one worker, and the fewest.
const PATHS: [usize; 2] = [4096, 64];

/// What is known of the path of one destination, for all clients or for those of one network.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// The keyed hash of destination and scope; 0 for an unused place.
    id: u64,
    /// Who has missed since the last decision: keyed hashes of client prefixes or addresses.
    witnesses: [u32; WITNESSES],
    count: u8,
    /// Whether this is about the clients of one network.
    is_of_network: bool,
    /// The keyed hash of the client prefix that spoke first.
    owner: u32,
    /// For how long the path was last backed off from; 0 if it never was.
    span: Ticks,
    /// SYNs stay untagged until this time.
    until: Ticks,
    /// The time of the last miss.
    missed: Ticks,
}

impl Path {
    fn is_forgotten(&self, now: Ticks) -> bool {
        self.id == 0 || now.since(self.missed.max(self.until)) >= MEMORY
    }

    fn holds(&self, now: Ticks) -> bool {
        now < self.until
    }

    /// Returns whether nobody but clients of this prefix has spoken of the path.
    fn is_word_of(&self, owner: u32) -> bool {
        self.owner == owner && (self.is_of_network || self.count <= 1 && self.span == Ticks(0))
    }

    /// Returns how much the path is worth when one of a set has to go: the least first.
    fn worth(&self, owner: u32, now: Ticks) -> (u8, u8, Ticks) {
        match () {
            () if self.is_forgotten(now) => (0, 0, Ticks(0)),
            () if self.is_word_of(owner) => (1, 0, self.missed),
            () if self.holds(now) => (3, 0, self.until),
            () => (2, self.count, self.missed),
        }
    }

    /// Notes that this witness has missed. Returns whether the path is backed off from now on, for
    /// at most `longest`.
    fn note(&mut self, witness: u32, longest: Ticks, now: Ticks) -> bool {
        self.missed = now;
        let count = usize::from(self.count);
        if self.witnesses[..count].contains(&witness) {
            return false;
        }
        self.witnesses[count] = witness;
        self.count += 1;
        let is_decided = usize::from(self.count) == WITNESSES;
        if is_decided {
            let span = if self.span == Ticks(0) { FIRST_SPAN } else { self.span + self.span };
            self.span = span.min(longest);
            (self.until, self.count) = (now + self.span, 0);
        }
        is_decided
    }

    /// Forgets that this witness has missed.
    fn take_back(&mut self, witness: u32) {
        let count = usize::from(self.count);
        if let Some(at) = self.witnesses[..count].iter().position(|known| *known == witness) {
            self.witnesses.swap(at, count - 1);
            self.count -= 1;
        }
    }
}

/// The paths that one worker has found to drop tagged SYNs.
///
/// A path belongs to a destination's address and port.
///
/// # Examples
/// ```
/// use std::net::SocketAddr;
///
/// use pipeline::base::time::Ticks;
/// use pipeline::policy::backoff::Backoff;
///
/// let mut backoff = Backoff::new(Ticks::from_secs(600), (1, 2), 4096);
/// let server = "203.0.113.10:443".parse().unwrap();
/// let client = |n: u8| SocketAddr::from(([198, 18, n, 10], 40_000));
/// assert!(!backoff.missed(server, client(1), Ticks::from_secs(1)));
/// assert!(!backoff.missed(server, client(2), Ticks::from_secs(2)));
/// // The third client prefix decides.
/// assert!(backoff.missed(server, client(3), Ticks::from_secs(3)));
/// assert!(backoff.holds(server, client(4), Ticks::from_secs(4)));
/// assert!(!backoff.holds(server, client(4), Ticks::from_secs(13)));
/// ```
#[derive(Debug)]
pub struct Backoff {
    longest: Ticks,
    clients: ClientHash,
    sets: Box<[[Path; WAYS]]>,
    /// Nothing is remembered from this time on, unless there are new misses.
    quiet_from: Ticks,
}

impl Backoff {
    /// Returns an empty memory of about `paths` paths, at least 64 and at most 4096. A path is
    /// backed off from for at most `longest`. The hash key must be secret.
    pub fn new(longest: Ticks, hash_key: (u64, u64), paths: usize) -> Self {
        let [most, fewest] = PATHS;
        let sets = (paths.clamp(fewest, most) / WAYS).next_power_of_two();
        let sets = vec![[Path::default(); WAYS]; sets].into_boxed_slice();
        let clients = ClientHash::new(hash_key);
        Self { longest, clients, sets, quiet_from: Ticks(0) }
    }

    /// Returns the longest time for which a path is backed off from.
    pub fn longest(&self) -> Ticks {
        self.longest
    }

    /// Changes the longest time for which a path is backed off from, also of those that are now.
    pub fn set_longest(&mut self, longest: Ticks) {
        self.longest = longest;
        for path in self.sets.iter_mut().flatten().filter(|path| path.span > longest) {
            path.until = Ticks(path.until.0 - path.span.0) + longest;
            path.span = longest;
        }
    }

    /// Returns whether SYNs of this client to this server stay untagged now, except probes.
    #[inline]
    pub fn holds(&self, server: SocketAddr, client: SocketAddr, now: Ticks) -> bool {
        if self.is_quiet(now) {
            return false;
        }
        let network = self.clients.network(client.ip());
        [self.id(server, None), self.id(server, Some(network))]
            .into_iter()
            .any(|id| self.sets[self.set(id)].iter().any(|path| path.id == id && path.holds(now)))
    }

    /// Returns whether the SYN with this sequence number is one of the few that stay tagged in the
    /// back-off: one in 16, which nobody can choose who does not know the hash key.
    pub fn is_probe(&self, client: SocketAddr, isn: u32) -> bool {
        let mut hasher = self.clients.hasher(2);
        write_address(&mut hasher, client.ip());
        hasher.write_u16(client.port());
        hasher.write_u32(isn);
        hasher.finish().is_multiple_of(PROBE_EVERY)
    }

    /// Notes that a race of this client has missed: the origin answered an untagged SYN after it
    /// had answered no tagged one. Returns whether the path is backed off from now on.
    #[cold]
    pub fn missed(&mut self, server: SocketAddr, client: SocketAddr, now: Ticks) -> bool {
        let mut is_decided = false;
        let longest = self.longest;
        for (id, witness, owner, is_of_network) in self.scopes(server, client) {
            let path = self.place(id, owner, now);
            if path.id != id || path.is_forgotten(now) {
                *path = Path { id, owner, is_of_network, ..Path::default() };
            }
            is_decided |= path.note(witness, longest, now);
            self.quiet_from = self.quiet_from.max(now + longest + MEMORY);
        }
        is_decided
    }

    /// Takes back what a race of this client has shown: an answer to its tagged SYNs came after
    /// all.
    #[cold]
    pub fn take_back(&mut self, server: SocketAddr, client: SocketAddr, now: Ticks) {
        if self.is_quiet(now) {
            return;
        }
        for (id, witness, ..) in self.scopes(server, client) {
            if let Some(path) = self.find(id) {
                path.take_back(witness);
            }
        }
    }

    /// Notes that a tagged SYN of this client was answered: the path takes the tag, and the back-off
    /// ends.
    #[inline]
    pub fn answered(&mut self, server: SocketAddr, client: SocketAddr, now: Ticks) {
        if !self.is_quiet(now) {
            self.forget(server, client);
        }
    }

    #[cold]
    fn forget(&mut self, server: SocketAddr, client: SocketAddr) {
        for (id, ..) in self.scopes(server, client) {
            if let Some(path) = self.find(id) {
                *path = Path::default();
            }
        }
    }

    #[inline]
    fn is_quiet(&self, now: Ticks) -> bool {
        now >= self.quiet_from
    }

    /// Returns, of a destination for all clients and then for those of the client's network: the
    /// path's identity, the witness, the client prefix, and whether it is of the network alone.
    fn scopes(&self, server: SocketAddr, client: SocketAddr) -> [(u64, u32, u32, bool); 2] {
        let prefix = self.clients.prefix(client.ip());
        let network = self.clients.network(client.ip());
        let address = self.clients.address(client.ip());
        [
            (self.id(server, None), prefix, prefix, false),
            (self.id(server, Some(network)), address, prefix, true),
        ]
    }

    fn find(&mut self, id: u64) -> Option<&mut Path> {
        let set = self.set(id);
        self.sets[set].iter_mut().find(|path| path.id == id)
    }

    /// Returns the place of a path, or the one that it may take.
    fn place(&mut self, id: u64, owner: u32, now: Ticks) -> &mut Path {
        let set = self.set(id);
        let paths = &mut self.sets[set];
        let known = paths.iter().position(|path| path.id == id);
        let place = known.unwrap_or_else(|| {
            (0..WAYS).min_by_key(|place| paths[*place].worth(owner, now)).unwrap_or(0)
        });
        &mut paths[place]
    }

    fn set(&self, id: u64) -> usize {
        id as usize & (self.sets.len() - 1)
    }

    /// Returns the identity of a destination's path, for all clients or for those of a network.
    fn id(&self, server: SocketAddr, network: Option<u32>) -> u64 {
        let mut hasher = self.clients.hasher(1);
        write_address(&mut hasher, server.ip());
        hasher.write_u16(server.port());
        if let Some(network) = network {
            hasher.write_u32(network);
        }
        hasher.finish().max(1)
    }
}

fn write_address(hasher: &mut SipHasher13, address: IpAddr) {
    match address {
        IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
        IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Ticks = Ticks::from_secs(600);

    fn at(seconds: u64) -> Ticks {
        Ticks::from_secs(seconds)
    }

    fn backoff() -> Backoff {
        Backoff::new(LONGEST, (1, 2), 4096)
    }

    fn server(n: u32) -> SocketAddr {
        (IpAddr::from((0xcb00_0000 | n).to_be_bytes()), 443).into()
    }

    fn client(prefix: u8, host: u8) -> SocketAddr {
        ([198, 18, prefix, host], 40_000).into()
    }

    /// Three prefixes miss.
    fn decided(backoff: &mut Backoff, now: Ticks) -> bool {
        let decisions = [1, 2, 3].map(|n| backoff.missed(server(1), client(n, n), now));
        decisions == [false, false, true]
    }

    #[test]
    fn three_prefixes_give_a_destination_up_for_all_and_only_its_port() {
        let mut backoff = backoff();
        assert!(decided(&mut backoff, at(1)));
        assert!(backoff.holds(server(1), client(9, 9), at(10)));
        assert!(!backoff.holds(server(1), client(9, 9), at(11)), "ten seconds at first");
        let other_port = SocketAddr::new(server(1).ip(), 80);
        assert!(!backoff.holds(other_port, client(9, 9), at(2)));
        assert!(!backoff.holds(server(2), client(9, 9), at(2)));
    }

    #[test]
    fn one_address_decides_nothing_however_often_it_misses() {
        let mut backoff = backoff();
        for n in 0..1000 {
            assert!(!backoff.missed(server(1), client(1, 1), at(n)));
        }
        assert!(!backoff.holds(server(1), client(1, 1), at(1000)));
    }

    #[test]
    fn three_addresses_of_a_network_decide_for_that_network_alone() {
        let mut backoff = backoff();
        let decisions = [1, 2, 3].map(|n| backoff.missed(server(1), client(1, n), at(1)));
        assert_eq!(decisions, [false, false, true]);
        assert!(backoff.holds(server(1), client(1, 99), at(2)));
        assert!(!backoff.holds(server(1), client(2, 99), at(2)));
        // A host of IPv6 may have 64 bits of its own, so it decides for these.
        let v6 = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        let server = v6("2001:db8::80");
        for n in 1..9 {
            let decides = backoff.missed(server, v6(&format!("2001:db8:1::{n}")), at(1));
            assert_eq!(decides, n % 3 == 0, "{n}");
        }
        assert!(backoff.holds(server, v6("2001:db8:1::99"), at(2)));
        assert!(!backoff.holds(server, v6("2001:db8:1:1::1"), at(2)));
    }

    #[test]
    fn each_confirmation_doubles_the_time_up_to_the_longest() {
        let mut backoff = backoff();
        let mut now = at(1);
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(decided(&mut backoff, now));
            let end = now + at(seconds);
            assert!(backoff.holds(server(1), client(9, 9), end - Ticks(1)), "{seconds} s");
            assert!(!backoff.holds(server(1), client(9, 9), end), "{seconds} s");
            now = end + at(1);
        }
        // It is forgotten after ten quiet minutes.
        assert!(decided(&mut backoff, now + MEMORY));
        assert!(!backoff.holds(server(1), client(9, 9), now + MEMORY + at(10)));
        let mut short = Backoff::new(at(4), (1, 2), 64);
        assert!(decided(&mut short, at(1)));
        assert!(!short.holds(server(1), client(9, 9), at(5)));
    }

    #[test]
    fn a_shorter_longest_time_holds_for_paths_that_are_backed_off_from() {
        let mut backoff = backoff();
        let mut now = at(1);
        for seconds in [10, 20, 40] {
            assert!(decided(&mut backoff, now));
            now = now + at(seconds);
        }
        assert!(backoff.holds(server(1), client(9, 9), now - at(1)));
        let decided_at = now.0 - at(40).0;
        backoff.set_longest(at(15));
        assert!(backoff.holds(server(1), client(9, 9), Ticks(decided_at) + at(14)));
        assert!(!backoff.holds(server(1), client(9, 9), Ticks(decided_at) + at(15)));
    }

    #[test]
    fn an_answer_to_a_tagged_syn_ends_it_for_all() {
        let mut backoff = backoff();
        assert!(decided(&mut backoff, at(1)));
        backoff.answered(server(2), client(9, 9), at(2));
        assert!(backoff.holds(server(1), client(9, 9), at(2)));
        backoff.answered(server(1), client(9, 9), at(2));
        assert!(!backoff.holds(server(1), client(1, 1), at(2)));
        assert!(decided(&mut backoff, at(3)), "and all evidence counts anew");
        assert!(!backoff.holds(server(1), client(1, 1), at(13)));
    }

    #[test]
    fn a_miss_that_was_a_mistake_is_taken_back() {
        let mut backoff = backoff();
        for n in [1, 2] {
            backoff.missed(server(1), client(n, 1), at(1));
        }
        backoff.take_back(server(1), client(1, 1), at(2));
        assert!(!backoff.missed(server(1), client(3, 1), at(3)));
        assert!(backoff.missed(server(1), client(4, 1), at(4)));
    }

    #[test]
    fn about_one_in_sixteen_is_a_probe_and_the_key_decides_which() {
        let probes = |backoff: &Backoff| -> Vec<u32> {
            (0..16_000).filter(|isn| backoff.is_probe(client(1, 1), *isn)).collect()
        };
        let (one, other) = (backoff(), Backoff::new(LONGEST, (3, 4), 64));
        assert!((800..1200).contains(&probes(&one).len()), "{}", probes(&one).len());
        assert_ne!(probes(&one), probes(&other));
    }

    #[test]
    fn nobody_can_fill_the_memory() {
        let mut backoff = Backoff::new(LONGEST, (1, 2), 64);
        // An attacker speaks of many destinations, from one prefix, all the time.
        let mut next = 1000;
        let mut attack = |backoff: &mut Backoff| {
            for _ in 0..5000 {
                next += 1;
                backoff.missed(server(next), client(66, 66), at(1));
            }
        };
        attack(&mut backoff);
        for n in [1, 2] {
            assert!(!backoff.missed(server(1), client(n, 1), at(2)));
            attack(&mut backoff);
        }
        assert!(backoff.missed(server(1), client(3, 1), at(2)), "all three were remembered");
        attack(&mut backoff);
        assert!(backoff.holds(server(1), client(9, 9), at(3)));
        assert_eq!(backoff.sets.len() * WAYS, 64);
    }
}
