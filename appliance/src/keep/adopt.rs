//! Takes over the tables that an earlier process has left.

use std::time::{Duration, Instant};

use memmap2::Mmap;
use pipeline::base::time::Ticks;
use pipeline::role::Role;
use pipeline::table::{self, Imported};

use super::{Found, Kept};
use crate::datapath::rss::RetaMap;
use crate::sys::kept_memory;

/// What became of the tables of an earlier process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// What became of their entries.
    pub entries: Imported,
    /// Why tables were not taken over.
    pub refused: Vec<String>,
    /// The time that it took.
    pub took: Duration,
}

/// Takes over the tables that an earlier process has left, all workers at once. Each of them reads
/// all tables and takes the connections of the clients that it owns.
pub fn adopt<R: Role + Send>(kept: &Kept, roles: &mut [R], reta: &RetaMap, now: Ticks) -> Adopted {
    let start = Instant::now();
    let mut adopted = Adopted::default();
    let (files, refused) = match kept.found() {
        Found::Nothing => return adopted,
        Found::Refused(why) => (Vec::new(), vec![why.clone()]),
        Found::State(_) => open_all::<R>(kept),
    };
    adopted.refused = refused;
    let tables: Vec<_> = files.iter().filter_map(|file| table::Kept::new(file).ok()).collect();
    let import = |(number, role): (usize, &mut R)| {
        role.import(&tables, |client| reta.worker_of(client) == number, now)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = roles
            .iter_mut()
            .enumerate()
            .map(|worker| scope.spawn(move || import(worker)))
            .collect();
        for thread in threads {
            let imported = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            adopted.entries += imported;
        }
    });
    adopted.took = start.elapsed();
    log(kept, &adopted);
    adopted
}

/// Maps the tables that can be taken over; says why the others cannot.
fn open_all<R: Role>(kept: &Kept) -> (Vec<Mmap>, Vec<String>) {
    let paths = match kept.found_tables() {
        Ok(paths) => paths,
        Err(error) => return (Vec::new(), vec![error.to_string()]),
    };
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        let opened = kept_memory::open(&path).map_err(|error| error.to_string()).and_then(|file| {
            let examined = table::Kept::new(&file).and_then(|table| R::may_import(&table));
            examined.map_err(|why| why.to_string()).map(|()| file)
        });
        match opened {
            Ok(file) => files.push(file),
            Err(why) => refused.push(format!("{}: {why}", path.display())),
        }
    }
    (files, refused)
}

fn log(kept: &Kept, adopted: &Adopted) {
    let directory = kept.directory().display();
    for why in &adopted.refused {
        tracing::warn!(%directory, why, "tables of an earlier process not taken over");
    }
    if kept.state().is_some() {
        let Imported { adopted: connections, torn, expired, invalid, unplaced, .. } =
            adopted.entries;
        tracing::info!(
            %directory,
            connections,
            torn,
            expired,
            invalid,
            unplaced,
            milliseconds = adopted.took.as_millis() as u64,
            "connections of an earlier process taken over"
        );
    }
}
