//! The roles under test, behind one type.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use firstack_tests::model::corpus::KEY;
use firstack_tests::model::plan::{Drawn, waiting, with_policy};
use firstack_tests::model::{
    Arrival, Fed, Harness, gateway, replica_of, replica_settings, switch_of, switch_selection,
};
use pipeline::base::published::Published;
use pipeline::memory::Policy;
use pipeline::packet::buffer::HeapPool;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::role::gateway::{Gateway, Timeouts};
use pipeline::role::replica::Admission;
use pipeline::role::switch::Selection;
use pipeline::table::{Imported, Kept};
use pipeline::verdict::Verdict;

use crate::source::Source;

/// The verdicts that were reached, by role: a bit each.
static SEEN: [[AtomicU64; 4]; ROLES.len()] =
    [const { [const { AtomicU64::new(0) }; 4] }; ROLES.len()];

/// The roles, by number.
pub(crate) const ROLES: [&str; 5] = ["A", "B", "C", "switch", "replica"];

const SWITCH: usize = 3;

/// Returns the verdicts that this process has reached, by role.
pub fn verdicts_seen() -> Vec<(&'static str, Vec<Verdict>)> {
    let reached = |words: &[AtomicU64; 4], verdict: &Verdict| {
        let at = *verdict as usize;
        words[at / 64].load(Relaxed) >> (at % 64) & 1 == 1
    };
    ROLES
        .iter()
        .zip(&SEEN)
        .map(|(role, words)| {
            let all = Verdict::ALL.iter().copied();
            (*role, all.filter(|verdict| reached(words, verdict)).collect())
        })
        .collect()
}

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) role: usize,
    with_key: bool,
    /// Whether SYNs and answers wait, and clients keep their server.
    waits: bool,
    /// Whether replicas are remembered.
    is_planned: bool,
    pub(crate) with_prelude: bool,
    /// Whether replicas win without being given the connection (gateway), and unsigned copies and
    /// those of some clients are refused (replica).
    is_strict: bool,
    /// Connections of each family that there is room for.
    pub(crate) connections: usize,
}

impl Setup {
    /// Takes two bytes.
    pub(crate) fn of(source: &mut Source<'_>) -> Self {
        let (role, bits) = (usize::from(source.byte()) % ROLES.len(), source.byte());
        let is_small = bits & 0xc0 == 0xc0 && role != SWITCH;
        Self {
            role,
            with_key: bits & 1 != 0,
            waits: bits & 2 != 0,
            is_planned: bits & 4 != 0,
            with_prelude: bits & 8 == 0,
            is_strict: bits & 0x30 == 0x30,
            connections: if is_small { 2 } else { 16 },
        }
    }

    /// Starts the role.
    pub(crate) fn start(&self) -> Box<dyn Subject> {
        match self.role {
            0 => self.gateway::<A>(),
            1 => self.gateway::<B>(),
            2 => self.gateway::<C>(),
            SWITCH => {
                thread_local! {
                    // It takes longer to make than a run.
                    static SELECTION: Published<Selection> = Published::new(switch_selection());
                }
                let key = self.with_key.then_some(KEY);
                let switch = SELECTION.with(|selection| switch_of(key, selection));
                Box::new(Rig { harness: Harness::switch(switch), role: SWITCH, admission: None })
            }
            role => {
                let key = self.with_key.then_some(KEY);
                let mut settings = replica_settings();
                settings.max_connections = [self.connections; 2];
                if self.is_strict {
                    settings.require_signature = true;
                    let allowed = ["198.18.1.0/24", "2001:db8:1::/48"];
                    let allowed = allowed.map(|text| text.parse().expect("a prefix"));
                    settings.allowed_clients = AllowList::only(allowed);
                }
                let (replica, shares) = replica_of(settings, |_| true, key);
                let admission = Some(shares.admission);
                Box::new(Rig { harness: Harness::new(replica, 8), role, admission })
            }
        }
    }

    fn gateway<M: Mode + 'static>(&self) -> Box<dyn Subject>
    where
        Gateway<M>: Role,
    {
        let policy = match (self.waits, self.is_strict) {
            (true, _) => waiting(),
            (false, shadow) => Policy { shadow, ..Policy::default() },
        };
        let settings = with_policy(gateway(self.connections, Timeouts::default()), &policy);
        let key = self.with_key.then_some(KEY);
        let harness = match self.is_planned {
            true => {
                let plans = Published::new(Drawn::usual().published(&settings));
                Harness::<Gateway<M>>::planned(settings, key, &plans)
            }
            false => Harness::<Gateway<M>>::gateway(settings, key),
        };
        Box::new(Rig { harness, role: self.role, admission: None })
    }
}

/// A role under test. Each call checks what [`Harness`] checks: one verdict per packet, counters
/// that move by the verdicts and nothing else, received = all fates, forwarded + generated = sent.
pub(crate) trait Subject {
    /// Feeds a burst.
    fn feed(&mut self, arrivals: &[Arrival]) -> Fed;
    /// Does the periodic work; returns what leaves.
    fn tidy(&mut self, at: Duration) -> [Vec<Vec<u8>>; 2];
    /// Returns the live entries of both families, as the last periodic work found them.
    fn live(&self) -> [usize; 2];
    /// Limits the buffers that the role can have.
    fn set_pool(&mut self, limit: usize);
    /// Takes every packet down the slow path.
    fn take_slow_path(&mut self);
    /// Takes a replica out of service, or makes it busy.
    fn admit(&mut self, dead: bool, busy: bool);
    /// Gives the tables their memory, before the first burst.
    fn place(&mut self);
    /// Returns the memory of the tables, as another process would find it.
    fn leave(&self) -> [Vec<u8>; 2];
    /// Takes over what another process has left.
    fn take_over(&mut self, memory: &[Vec<u8>; 2], now: Duration) -> Imported;
}

struct Rig<R> {
    harness: Harness<R>,
    role: usize,
    admission: Option<Arc<Admission>>,
}

impl<R: Role> Subject for Rig<R> {
    fn feed(&mut self, arrivals: &[Arrival]) -> Fed {
        let fed = self.harness.feed(arrivals);
        for verdict in &fed.verdicts {
            let at = *verdict as usize;
            SEEN[self.role][at / 64].fetch_or(1 << (at % 64), Relaxed);
        }
        fed
    }

    fn tidy(&mut self, at: Duration) -> [Vec<Vec<u8>>; 2] {
        self.harness.on_timer(at)
    }

    fn live(&self) -> [usize; 2] {
        self.harness.gauges().map(|states| states.iter().sum())
    }

    fn set_pool(&mut self, limit: usize) {
        self.harness.set_pool(HeapPool::with_limit(limit));
    }

    fn take_slow_path(&mut self) {
        self.harness.take_slow_path();
    }

    fn admit(&mut self, dead: bool, busy: bool) {
        if let Some(admission) = &self.admission {
            admission.dead.store(dead, Relaxed);
            admission.busy.store(busy, Relaxed);
        }
    }

    fn place(&mut self) {
        self.harness.role.place_tables([None, None]).expect("empty tables");
    }

    fn leave(&self) -> [Vec<u8>; 2] {
        self.harness.role.table_memory()
    }

    fn take_over(&mut self, memory: &[Vec<u8>; 2], now: Duration) -> Imported {
        let kept: Vec<_> = memory.iter().filter_map(|bytes| Kept::new(bytes).ok()).collect();
        self.harness.role.import(&kept, |_| true, now.into())
    }
}
