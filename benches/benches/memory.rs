//! The control thread's share of direct racing, by number of services of 32 sites each: what a
//! report costs, and what publishing the plans costs. A turn is what the control thread does every
//! 10 ms with a full queue of one worker.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::direct;
use pipeline::base::time::Ticks;
use pipeline::memory::{Event, Memory, Policy, Report, SITES, ServiceSettings, Why};
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::wire::copies::CopiesWanted;

/// Numbers of services.
const SERVICES: [u16; 2] = [1, 1024];
/// Reports in the queue of one worker at most.
const REPORTS: u64 = 4096;
/// Reports of a race: its SYN, and the SYN/ACKs of two replicas and of the origin.
const OF_RACE: u64 = 4;
const TURN: Ticks = Ticks::from_millis(10);

fn address(site: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, site).into()
}

/// A memory, and races of clients that are ever others.
struct Bench {
    memory: Memory,
    services: u16,
    race: u64,
    now: Ticks,
}

impl Bench {
    /// Returns a memory in which every service has all sites, each of which has answered.
    fn new(services: u16) -> Self {
        // The configuration names all sites, so that none expires while time passes fast.
        let warm = (0..SITES as u8).map(address).collect();
        let policy = Policy { warm, ..direct::policy(2) };
        let settings = (0..services).map(|_| ServiceSettings::from(policy.clone())).collect();
        let memory = Memory::new(settings, TunnelPath::default());
        let mut bench = Self { memory, services, race: 0, now: Ticks::from_secs(1) };
        for service in 0..services {
            for site in 0..SITES as u8 {
                let answer = bench.answer(site, false);
                bench.note(service, answer);
            }
        }
        bench.memory.step(bench.now);
        bench
    }

    fn answer(&self, site: u8, has_won: bool) -> Event {
        Event::Answered {
            responder: address(site),
            is_origin: false,
            is_direct: true,
            has_won,
            after: Some(Ticks::from_millis(10 + u64::from(site))),
        }
    }

    fn note(&mut self, service: u16, event: Event) {
        let client = Ipv4Addr::from_bits(0x0a00_0000 | self.race as u32 >> 8);
        let client = SocketAddr::from((client, 10_000 + (self.race & 0xff) as u16));
        self.memory.note(&Report { at: self.now, service, client, event });
    }

    /// Notes the reports of one race, of each service in turn.
    fn race(&mut self) {
        let service = (self.race % u64::from(self.services)) as u16;
        let copies = CopiesWanted::at_most(1);
        self.note(service, Event::Asked { sites: 0b11, copies, why: Why::Fresh });
        for site in 0..2 {
            self.note(service, self.answer(site, site == 0));
        }
        let origin = Event::Answered {
            responder: [203, 0, 113, 10].into(),
            is_origin: true,
            is_direct: true,
            has_won: false,
            after: Some(Ticks::from_millis(140)),
        };
        self.note(service, origin);
        self.race += 1;
    }

    /// Notes a full queue and publishes what follows from it.
    fn turn(&mut self) {
        (0..REPORTS / OF_RACE).for_each(|_| self.race());
        self.now = self.now + TURN;
        self.memory.step(self.now);
    }
}

fn memory(criterion: &mut Criterion) {
    for services in SERVICES {
        let mut bench = Bench::new(services);
        let mut group = criterion.benchmark_group("memory");
        let id = |name: &str| BenchmarkId::new(name, services);
        group.throughput(Throughput::Elements(OF_RACE));
        group.bench_function(id("note"), |bencher| bencher.iter(|| bench.race()));
        group.throughput(Throughput::Elements(REPORTS));
        group.bench_function(id("turn"), |bencher| bencher.iter(|| bench.turn()));
        group.throughput(Throughput::Elements(1));
        group.bench_function(id("step_without_reports"), |bencher| {
            bencher.iter(|| {
                bench.now = bench.now + TURN;
                bench.memory.step(black_box(bench.now));
            });
        });
        group.finish();
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
