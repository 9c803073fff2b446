//! Tests of the hash: Microsoft's vectors, and what ports make of whole packets under its keys.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::testing::random;
use super::*;

/// The key in the Microsoft RSS specification, "Verifying the RSS hash calculation".
const MICROSOFT: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Source and port, destination and port; the hash of the addresses, the hash of addresses and ports.
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

/// Returns the hashes by the key for each size of tables: with the word that is no secret, and drawn.
fn by_key() -> impl Iterator<Item = (u32, Toeplitz)> {
    (LEAST_BITS..=MOST_BITS).flat_map(|bits| {
        let public = Toeplitz::of_placed(words::placed(bits), bits);
        let drawn = (1..=3).map(move |seed| Toeplitz::by_key(bits, random(seed)));
        [public].into_iter().chain(drawn).map(move |hash| (bits, hash))
    })
}

/// What igb, ixgbe, ice and net_virtio hash of IPv4: two addresses, of TCP and UDP the ports as well.
#[test]
fn ports_with_any_table_compute_the_clients_hash_from_whole_packets() {
    for (bits, hash) in by_key() {
        assert_eq!(hash.most_entries(), 1 << bits);
        let mut next = random(u64::from(hash.word()));
        for _ in 0..500 {
            let (client, server, ports) = (next(), next(), next());
            let own = hash.of_address(Ipv4Addr::from_bits(client).into());
            let [c, s, p] = [client, server, ports].map(u32::to_be_bytes);
            for (key, addresses) in
                [(hash.source_key(), [c, s].concat()), (hash.destination_key(), [s, c].concat())]
            {
                let with_ports = [&addresses[..], &p].concat();
                for input in [addresses, with_ports] {
                    // Cards take 40 bytes, 52, or all.
                    for length in [40, 52, KEY] {
                        let index = toeplitz(&key[..length], &input) & ((1 << bits) - 1);
                        assert_eq!(index, own, "{bits} bits, {input:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn under_the_key_of_the_other_side_a_packet_is_elsewhere() {
    // Or else the test above could not fail.
    let hash = Toeplitz::default();
    let client = Ipv4Addr::new(198, 18, 1, 10);
    let input = [client.octets(), [203, 0, 113, 1]].concat();
    let index = toeplitz(hash.destination_key(), &input) & (hash.most_entries() - 1);
    assert_ne!(index, hash.of_address(client.into()));
}

#[test]
fn one_address_has_one_hash_wherever_a_card_puts_it() {
    for hash in [Toeplitz::of_periodic(words::PERIODIC), Toeplitz::of_one_address(random(1))] {
        assert!(hash.is_of_one_address() && hash.source_key() == hash.destination_key());
        for address in VECTORS.iter().flat_map(|vector| [vector.0, vector.2]) {
            let own = hash.of_address(address.parse().unwrap());
            let alone = bytes(address);
            let other = vec![0; alone.len()];
            let first = [&alone[..], &other[..]].concat();
            let last = [&other[..], &alone[..]].concat();
            for (what, input) in
                [("alone", alone), ("as the source", first), ("as the destination", last)]
            {
                let low = toeplitz(hash.source_key(), &input) & (hash.most_entries() - 1);
                assert_eq!(low, own, "{address} {what}");
            }
        }
    }
}

#[test]
fn a_kept_word_gives_the_same_hash_and_no_other_word_is_taken() {
    let drawn = Toeplitz::by_key(7, random(1));
    let kept = Toeplitz::by_kept_key(7, drawn.word()).unwrap();
    assert_eq!(kept.source_key(), drawn.source_key());
    assert_eq!(kept.destination_key(), drawn.destination_key());
    let client = Ipv4Addr::new(198, 18, 1, 10).into();
    assert_eq!(kept.of_address(client), drawn.of_address(client));
    let periodic = Toeplitz::of_one_address(random(1));
    let again = Toeplitz::of_one_address_kept(periodic.word()).unwrap();
    assert_eq!(again.of_address(client), periodic.of_address(client));
    // What a process of an earlier version has left, or one whose ports have smaller tables, or none.
    for word in [periodic.word(), Toeplitz::by_key(6, random(1)).word(), 0, u32::MAX] {
        assert!(Toeplitz::by_kept_key(7, word).is_none(), "{word:#x}");
    }
    assert!(Toeplitz::of_one_address_kept(0).is_none());
    assert_eq!(format!("{drawn:?}"), "Toeplitz { .. }");
}

/// Returns how many of `clients` the fullest and the emptiest of `queues` queues get.
fn extremes(
    hash: &Toeplitz,
    clients: impl Iterator<Item = IpAddr>,
    entries: u32,
    queues: usize,
) -> (usize, usize) {
    let mut shares = vec![0; queues];
    clients.for_each(|client| shares[(hash.of_address(client) % entries) as usize % queues] += 1);
    (*shares.iter().max().unwrap(), *shares.iter().min().unwrap())
}

/// Returns `count` addresses from `first` on, `step` apart.
fn v4(first: [u8; 4], step: u32, count: u32) -> impl Iterator<Item = IpAddr> {
    let first = u32::from_be_bytes(first);
    (0..count).map(move |n| Ipv4Addr::from_bits(first + n * step).into())
}

#[test]
fn clients_are_spread_evenly() {
    for (bits, hash) in by_key() {
        spreads_evenly(&hash, bits, 1 << bits);
    }
    for seed in 1..=3 {
        let hash = Toeplitz::of_one_address(random(seed));
        for entries in [64, 128, 512, 2048] {
            spreads_evenly(&hash, 8, entries);
        }
    }
}

/// Any `bits` adjacent bits of the address give equal shares, and other numbers of queues fair ones.
fn spreads_evenly(hash: &Toeplitz, bits: u32, entries: u32) {
    for queues in [2, 4, 8, 16, 32, 64] {
        let even = ((1 << bits) / queues, (1 << bits) / queues);
        for place in 0..=32 - bits {
            let some = v4([0, 0, 0, 0], 1 << place, 1 << bits);
            assert_eq!(extremes(hash, some, entries, queues), even, "bits from {place} on");
        }
    }
    for queues in [3, 5, 6, 7, 12] {
        for (what, clients, step) in
            [("a /24", 256, 1), ("a /16", 65_536, 1), ("every 256th", 256, 256)]
        {
            // Fewer clients than entries may have every other entry, and so every other queue.
            if clients >> bits == 0 {
                continue;
            }
            let (most, least) = extremes(hash, v4([198, 18, 0, 0], step, clients), entries, queues);
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

#[test]
fn clients_of_ipv6_are_spread_evenly() {
    // One client in each /64, and one in each /48.
    for hash in [Toeplitz::default(), Toeplitz::of_periodic(words::PERIODIC)] {
        for shift in [64, 80] {
            let prefix = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
            let clients = (0..256).map(|n| IpAddr::from(Ipv6Addr::from(prefix | n << shift)));
            let (most, least) = extremes(&hash, clients, 512, 4);
            match hash.is_of_one_address() {
                true => assert_eq!((most, least), (64, 64)),
                false => assert!(most < 96 && least > 32, "{least} to {most}"),
            }
        }
    }
}

/// Addresses that differ in two words alike, which anybody with a /64 has, do not share a worker if no
/// port computes their hash.
#[test]
fn nobody_chooses_the_worker_of_an_ipv6_client_without_the_word() {
    for seed in 1..=4 {
        let hash = Toeplitz::by_key(7, random(seed));
        let prefix = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
        let alike = |n: u128| IpAddr::from(Ipv6Addr::from(prefix | n << 32 | n ^ 7));
        let (most, least) = extremes(&hash, (0..4096).map(alike), 128, 4);
        assert!(most < 1536 && least > 512, "{least} to {most}");
    }
}

/// By the key, a port cannot compute the owner of an IPv6 client, but gives no queue more than its share:
/// whether packets differ in the client's network, in its host, in the server, or only in the port.
#[test]
fn packets_of_ipv6_are_spread_over_queues_by_either_key() {
    const QUEUES: u32 = 4;
    const PACKETS: u32 = 4096;
    let network = |n: u32| u128::from(n) << 72 | 0x2001_0db8 << 96 | 1;
    let host = |n: u32| 0x2001_0db8 << 96 | u128::from(n);
    for seed in 1..=4 {
        let hash = Toeplitz::by_key(7, random(seed));
        for (key, client_first) in [(hash.source_key(), true), (hash.destination_key(), false)] {
            for (what, client, server, port) in [
                ("network", network as fn(u32) -> u128, host(7), true),
                ("host", host, host(7), true),
                ("port", |_| 0x2001_0db8 << 96 | 1, host(7), true),
                ("host, without ports", host, host(7), false),
            ] {
                let mut shares = [0; QUEUES as usize];
                let mut next = random(9);
                for n in 0..PACKETS {
                    let mut ends = [client(n).to_be_bytes(), server.to_be_bytes()];
                    let mut ports = [next() as u16 | 0x8000, 443];
                    if !client_first {
                        ends.reverse();
                        ports.reverse();
                    }
                    let mut input = ends.concat();
                    if port {
                        ports.iter().for_each(|port| input.extend(port.to_be_bytes()));
                    }
                    let index = toeplitz(&key[..40], &input) & (hash.most_entries() - 1);
                    shares[(index % QUEUES) as usize] += 1;
                }
                let fair = PACKETS / QUEUES;
                let even = shares.iter().all(|share| (fair * 3 / 4..fair * 5 / 4).contains(share));
                assert!(even, "by {what}, client first: {client_first}: {shares:?}");
            }
        }
    }
}

/// A key with a period of 16 bits would give all of them one queue.
#[test]
fn halves_of_an_address_that_change_together_are_spread_with_one_address() {
    for seed in 1..=4 {
        let hash = Toeplitz::of_one_address(random(seed));
        let (most, least) = extremes(&hash, v4([10, 0, 0, 0], 0x0001_0001, 4096), 256, 4);
        assert!(most <= 2048 && least > 0, "{least} to {most}");
    }
}
