//! firstack on emulated PCI cards, in a QEMU guest: the short form of `scripts/test-nic`.
//!
//! Needs root, DPDK, and what `scripts/nic-guest target/nic/own` lays out, or another such directory
//! named in `FIRSTACK_NIC`; without it the tests fail and say so. One guest at a time. On another
//! architecture nothing is tested here.
#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use firstack_tests::nic::{Assets, Card, Guest, Table};
use firstack_tests::scenario::binary::full;

fn assets() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nic/own");
    std::env::var_os("FIRSTACK_NIC").map_or_else(usual, PathBuf::from)
}

#[track_caller]
fn every_case_passes(name: &str) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let assets = Assets::read(&assets()).unwrap_or_else(|missing| panic!("{missing}"));
    let card = Card::find(name).unwrap();
    let rows = Guest::try_card(&assets, &card, full().unwrap(), |row| println!("{row}"));
    let table = Table { rows: rows.unwrap_or_else(|trouble| panic!("{name}: {trouble}")) };
    assert!(table.passed(), "\n{table}");
}

#[test]
fn e1000e_with_two_workers() {
    every_case_passes("e1000e");
}

#[test]
fn virtio_net_with_four_workers_and_rss() {
    every_case_passes("virtio-net");
}
