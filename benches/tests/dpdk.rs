//! The benchmarks' own use of DPDK, with virtual devices, no hugepages and no NIC.

#![cfg(feature = "dpdk")]

#[path = "../../appliance/tests/alone/mod.rs"]
mod alone;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use alone::{alone, eal};
use arrayvec::ArrayVec;
use firstack::dpdk::{DEFAULT_DATA_ROOM, Mbuf, MbufPool, Port, PortConfig, Started};
use firstack_benches::dpdk::{Error, HashTable, RxCallback, bytes_in_use};
use pipeline::packet::buffer::Buffer;

const CONFIG: PortConfig<'static> = PortConfig {
    queues: 1,
    rx_descriptors: 256,
    tx_descriptors: 256,
    max_frame: 9014,
    rss: None,
    checksums: false,
    interrupts: false,
};

#[test]
fn a_callback_sees_each_burst_and_decides_what_is_received() {
    alone("a_callback_sees_each_burst_and_decides_what_is_received", || {
        let eal = eal(1);
        let pool = MbufPool::new(&eal, "callback", 255, 8, DEFAULT_DATA_ROOM, None).unwrap();
        let mut port = Port::by_device(&eal, "net_null0,size=60").unwrap();
        port.configure(&CONFIG, &pool).unwrap();
        let Started { mut rx, tx, .. } = port.start().unwrap();
        let mut bursts = 0;
        let callback = RxCallback::add(&mut rx[0], move |frames| {
            bursts += 1;
            for (place, frame) in frames.iter_mut().enumerate() {
                frame.set_len(100);
                frame.head_mut().fill((10 * bursts + place) as u8);
            }
            // All of the first burst, none of the second, five from then on.
            [frames.len(), 0, 5][bursts.min(3) - 1]
        })
        .unwrap();
        let mut got = ArrayVec::<Mbuf, 8>::new();
        let mut firsts = Vec::new();
        for _ in 0..4 {
            let count = rx[0].burst(&mut got);
            assert!(got.iter().all(|mbuf| mbuf.frame_len() == 100 && mbuf.head().len() == 100));
            firsts.push((count, got.first().map(|mbuf| mbuf.head()[99])));
            got.clear();
        }
        assert_eq!(firsts, [(8, Some(10)), (0, None), (5, Some(30)), (5, Some(40))]);
        // A removed callback sees nothing any more.
        drop(callback);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let second = RxCallback::add(&mut rx[0], move |_| counted.fetch_add(1, Relaxed) + 2);
        assert_eq!((rx[0].burst(&mut got), calls.load(Relaxed)), (2, 1));
        got.clear();
        drop(second.unwrap());
        assert_eq!((rx[0].burst(&mut got), calls.load(Relaxed)), (8, 1));
        got.clear();
        // Nor does one that is removed after its port was restarted.
        let third = RxCallback::add(&mut rx[0], |_| 3).unwrap();
        drop((rx, tx));
        port.stop().unwrap();
        drop(third);
        let mut again = port.start().unwrap();
        assert_eq!(again.rx[0].burst(&mut got), 8);
        drop((got, again));
        port.close().unwrap();
        assert_eq!(pool.available(), pool.size());
    });
}

#[test]
fn a_hash_table_finds_keys_by_the_burst() {
    alone("a_hash_table_finds_keys_by_the_burst", || {
        let eal = eal(1);
        let before = bytes_in_use(&eal);
        let mut table = HashTable::new(&eal, "table", 1000).unwrap();
        let taken = HashTable::new(&eal, "table", 1000);
        assert!(matches!(taken, Err(Error::HashTable { entries: 1000, .. })));
        // At least the size of a key, and less than two cache lines.
        let each = (bytes_in_use(&eal) - before) / 1000;
        assert!((16..128).contains(&each), "{each} bytes per key");

        let key = |number: u32| [number.to_be_bytes(); 4].concat().try_into().unwrap();
        let positions: Vec<u32> = (0..1000).map(|n| table.add(&key(n)).unwrap()).collect();
        let all_differ: std::collections::BTreeSet<_> = positions.iter().collect();
        assert_eq!(all_differ.len(), 1000);
        assert_eq!(table.add(&key(7)), Some(positions[7]));
        assert_eq!(table.remove(&key(7)), Some(positions[7]));
        assert_eq!(table.remove(&key(7)), None);
        let keys = [key(999), key(7), key(0), key(1000)];
        let found = table.lookup_bulk(&keys.each_ref());
        let at = |number: usize| i32::try_from(positions[number]).unwrap();
        assert_eq!((found[0], found[2]), (at(999), at(0)));
        assert!(found[1] < 0 && found[3] < 0, "{found:?}");

        drop(table);
        assert!(bytes_in_use(&eal) < before + 16 * 1000);
    });
}
