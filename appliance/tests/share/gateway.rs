//! The control thread's part of a gateway that shares.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firstack::config::StoreServer;
use firstack::control::memory::Remembering;
use firstack::control::share::{Hash, Settings, Sharing};
use firstack::control::stats::{ShareStats, SiteStats};
use pipeline::base::published::Reader;
use pipeline::base::time::Ticks;
use pipeline::memory::{Event, Plan, Plans, Policy, Report};
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::wire::family::Version;

use crate::server::PATIENCE;

/// Replicas of three sites.
pub const REPLICAS: [&str; 3] = ["198.51.100.10", "198.51.101.10", "198.51.102.10"];

/// A gateway whose memory's clock stands still.
pub struct Gateway {
    remembering: Remembering,
    sharing: Sharing,
    plans: Reader<Plans>,
    now: Ticks,
}

/// Returns the time in seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns the settings of a gateway with one service for both families.
pub fn settings(server: StoreServer) -> Settings {
    let allowed = ["198.51.100.0/22", "198.18.0.0/15", "2001:db8::/32"];
    let hash = |version, family: &str, site_prefix| Hash {
        key: format!("firstack:shop:{family}"),
        service: 0,
        version,
        allowed: allowed.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        memory: Duration::from_secs(600),
        site_prefix,
    };
    Settings {
        server,
        user: None,
        password: None,
        database: 0,
        interval: Duration::from_millis(20),
        hashes: vec![hash(Version::V4, "v4", 24), hash(Version::V6, "v6", 64)],
    }
}

impl Gateway {
    /// Starts sharing.
    pub fn new(settings: Settings) -> Self {
        let policy = Policy { direct: 2, ..Policy::default() };
        let remembering = Remembering::new(vec![policy.into()], TunnelPath::default());
        let plans = remembering.plans();
        let sharing = Sharing::start(settings).unwrap();
        Self { remembering, sharing, plans, now: Ticks::from_secs(100_000) }
    }

    /// Notes an answer, after so many milliseconds if it is to a direct copy.
    pub fn hears(&mut self, replica: &str, direct_ms: Option<u64>) {
        let client: SocketAddr = "198.18.1.10:40000".parse().unwrap();
        let after = Some(Ticks::from_millis(direct_ms.unwrap_or(150)));
        let event = Event::Answered {
            responder: replica.parse().unwrap(),
            is_origin: false,
            is_direct: direct_ms.is_some(),
            has_won: false,
            after,
        };
        self.remembering.memory().note(&Report { at: self.now, service: 0, client, event });
    }

    /// Forgets everything.
    pub fn forgets(&mut self) {
        self.remembering.clear(None, self.now);
    }

    /// Does what the control thread does each time.
    pub fn step(&mut self) {
        self.remembering.step(self.now);
        self.sharing.step(self.remembering.memory(), self.now);
    }

    /// Returns what is remembered of IPv4.
    pub fn known(&self) -> Vec<SiteStats> {
        let shown = self.remembering.shown(&["shop".to_owned()], self.now);
        shown.into_iter().filter(|shown| shown.family == "IPv4").flat_map(|s| s.sites).collect()
    }

    /// Returns the plan for IPv4.
    pub fn plan(&mut self) -> Plan {
        self.remembering.step(self.now);
        self.plans.refresh();
        self.plans.get().of(0, Version::V4).unwrap().clone()
    }

    /// Returns the state of the store.
    pub fn stats(&self) -> ShareStats {
        self.sharing.stats()
    }
}

/// Steps gateways until it is so.
pub fn together(gateways: &mut [&mut Gateway], mut is_so: impl FnMut(&[&mut Gateway]) -> bool) {
    let start = Instant::now();
    loop {
        gateways.iter_mut().for_each(|gateway| gateway.step());
        if is_so(gateways) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Steps a gateway until it is so.
pub fn until(gateway: &mut Gateway, mut is_so: impl FnMut(&Gateway) -> bool) {
    together(&mut [gateway], |gateways| is_so(gateways[0]));
}
