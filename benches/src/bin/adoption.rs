//! How long one worker takes to adopt the table of another process, by number of connections.
//!
//!     cargo run --release -p firstack-benches --no-default-features --bin adoption -- [MILLIONS...]
//!
//! The table that is adopted is a file in /dev/shm, as a process leaves it, and is mapped anew for
//! each row. The new table is populated before, which a process does while the other still forwards.

use std::error::Error;
use std::fs::File;
use std::net::IpAddr;
use std::time::Instant;

use firstack_benches::find::{Connections, Numbered, flow};
use firstack_benches::fixtures::KEY;
use firstack_benches::roles::gateway_settings;
use memmap2::{Mmap, MmapMut};
use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::memory::Policy;
use pipeline::role::Role;
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::flow::Phase;
use pipeline::role::gateway::mode::A;
use pipeline::stage::sign::Keys;
use pipeline::table::{Kept, Kind, State, Table};
use pipeline::wire::configuration::Configuration;
use pipeline::wire::family::{Endpoint, V4, V6, Version};

/// A mix of connections: its name, and the state of each by number.
type Mix = (&'static str, fn(usize) -> Phase);

/// The states of the connections that are adopted.
const MIXES: [Mix; 3] = [
    ("all established", |_| Phase::Replica),
    ("one in ten with the origin", |number| match number % 10 {
        0 => Phase::Origin,
        _ => Phase::Replica,
    }),
    ("all half closed", |_| Phase::HalfClosed),
];

/// A hash key that is not the new table's. A restart keeps the key, so that this is the worst case.
const OTHER_KEY: (u64, u64) = (9, 9);

/// When they are adopted.
const NOW: Ticks = Ticks::from_secs(1000);

fn main() -> Result<(), Box<dyn Error>> {
    let millions: Vec<usize> =
        std::env::args().skip(1).map(|n| n.parse()).collect::<Result<_, _>>()?;
    let millions = if millions.is_empty() { vec![1, 8] } else { millions };
    println!("| connections | states | populated in ms | adopted in ms |\n|---|---|---|---|");
    for count in millions.into_iter().map(|millions| millions << 20) {
        for (name, phase) in MIXES {
            row::<V4>(count, name, phase, OTHER_KEY)?;
        }
        row::<V6>(count, MIXES[0].0, MIXES[0].1, OTHER_KEY)?;
        row::<V4>(count, "all established, with the same hash key", MIXES[0].1, KEY)?;
        row::<V4>(count, "all half closed, with the same hash key", MIXES[2].1, KEY)?;
        row_of::<V4>(count, 1000, "a thousand established", MIXES[0].1, KEY)?;
    }
    Ok(())
}

/// Maps a file that no other process has.
fn map(file: &File) -> Result<MmapMut, Box<dyn Error>> {
    // SAFETY: the file has no name, and nobody truncates it.
    Ok(unsafe { MmapMut::map_mut(file)? })
}

/// Leaves a table with room for so many connections, and with so many, in a file.
fn leave<F: Numbered>(
    capacity: usize,
    count: usize,
    phase: fn(usize) -> Phase,
    key: (u64, u64),
) -> Result<File, Box<dyn Error>> {
    let mut table: Connections<F> = Table::new(capacity, &[Ticks(u64::MAX); Phase::ALL.len()], key);
    let file = tempfile::tempfile_in("/dev/shm")?;
    file.set_len(table.bytes() as u64)?;
    table.place(Kind::Gateway(Configuration::A), Some(map(&file)?))?;
    for number in 0..count {
        let (key, mut value) = (F::numbered(number), flow::<F>(number));
        value.replica = Endpoint::new(value.server.address, 8080);
        // Last seen in an order that has nothing to do with their places.
        let seen = Ticks(NOW.0 - ((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34));
        let inserted = table.insert(table.hash(key), key, phase(number), seen, value);
        assert!(inserted.is_some(), "the table is full");
    }
    table.settle();
    Ok(file)
}

fn row<F: Numbered>(
    count: usize,
    name: &str,
    phase: fn(usize) -> Phase,
    key: (u64, u64),
) -> Result<(), Box<dyn Error>> {
    row_of::<F>(count, count, name, phase, key)
}

/// Measures a table with room for more connections than it has.
fn row_of<F: Numbered>(
    capacity: usize,
    count: usize,
    name: &str,
    phase: fn(usize) -> Phase,
    key: (u64, u64),
) -> Result<(), Box<dyn Error>> {
    let file = leave::<F>(capacity, count, phase, key)?;
    let start = Instant::now();
    let mut settings = gateway_settings(capacity, &Policy::default());
    settings.max_connections[1 - F::VERSION as usize] = 1;
    let keys = Published::new(Keys::default()).reader();
    let mut gateway = Gateway::<A>::new(settings, keys);
    let own = tempfile::tempfile_in("/dev/shm")?;
    own.set_len(gateway.table_bytes()[F::VERSION as usize] as u64)?;
    let own = Some(map(&own)?);
    gateway.place_tables(match F::VERSION {
        Version::V4 => [own, None],
        Version::V6 => [None, own],
    })?;
    let populated = start.elapsed();
    let start = Instant::now();
    // SAFETY: nobody writes to the file any more.
    let bytes = unsafe { Mmap::map(&file)? };
    let kept = Kept::new(&bytes)?;
    let done = gateway.import(&[kept], |_: IpAddr| true, NOW);
    let adopted = start.elapsed();
    assert_eq!(done.adopted as usize, count, "{done:?}");
    let (populated, adopted) = (populated.as_millis(), adopted.as_millis());
    println!("| {capacity} IP{:?} | {name} | {populated} | {adopted} |", F::VERSION);
    Ok(())
}
