//! The network of the demonstration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::wan::Report;
use crate::lab::{
    Content, ContentFile, Curl, Family, Fetched, Geometry, Lab, LabError, Place, Result,
    SWITCH_BESIDE_ORIGIN, Site, Topology, TopologyBuilder, WebServer,
};
use crate::processes::{ProcessOptions, Processes};

/// Live connections at which replica 2 is busy.
pub const BUSY: u32 = 40;
/// The files of every web server, with their sizes in bytes.
const FILES: [(&str, u64); 3] = [("4KB", 4_000), ("1MB", 1_000_000), ("100MB", 100_000_000)];
/// Bytes of each frame in the WAN's captures, enough for all headers.
const SNAPLEN: u32 = 128;
/// Time limit of the demonstration.
const LONGEST: Duration = Duration::from_secs(1800);

fn topology(geometry: Geometry) -> TopologyBuilder {
    geometry.topology().longest(LONGEST)
}

/// A running network: hosts, web servers and WAN, with or without firstack.
#[derive(Debug)]
pub struct World {
    processes: Option<Processes>,
    servers: Vec<Option<WebServer>>,
    topology: Topology,
    content: Content,
    lab: Lab,
}

impl World {
    /// Builds the network without firstack: hosts are connected to the WAN directly.
    pub fn direct() -> Result<Self> {
        let topology = topology(SWITCH_BESIDE_ORIGIN).direct(true).ipv6(true);
        Self::build("direct", topology, &FILES, None)
    }

    /// Builds the network with firstack at every site. The WAN's captures are written to `captures`,
    /// which must exist. Replica 2 is busy at [`BUSY`] connections.
    pub fn with_firstack(
        geometry: Geometry,
        options: ProcessOptions,
        captures: Option<&Path>,
    ) -> Result<Self> {
        let options = ProcessOptions { max_connections: vec![None, Some(BUSY)], ..options };
        let topology = match captures {
            Some(directory) => topology(geometry).captures(directory, SNAPLEN),
            None => topology(geometry),
        };
        Self::build("demo", topology, &FILES, Some(&options))
    }

    /// Builds a topology with a web server at every site, and with firstack if there are options for
    /// it. Adds IPv6 and the management network to the topology if the options need them.
    pub fn build(
        name: &str,
        topology: TopologyBuilder,
        files: &[(&str, u64)],
        firstack: Option<&ProcessOptions>,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let mut topology = topology;
        if let Some(options) = firstack {
            if options.families().contains(&Family::V6) {
                topology = topology.ipv6(true);
            }
            if options.checks.any() {
                topology = topology.management(true);
            }
        }
        let topology = topology.build(&lab)?;
        let content = Content::generate(&lab, files)?;
        let servers = topology.servers().iter();
        let servers = servers.map(|place| WebServer::start(&lab, place, &content).map(Some));
        let servers = servers.collect::<Result<_>>()?;
        let processes =
            firstack.map(|options| Processes::start(&lab, &topology, options)).transpose()?;
        Ok(Self { processes, servers, topology, content, lab })
    }

    /// Returns the laboratory of its namespaces.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns its sites.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the clients' site.
    #[must_use]
    pub fn client(&self) -> &Place {
        self.topology.client()
    }

    /// Returns the origin's site.
    #[must_use]
    pub fn origin(&self) -> &Place {
        self.topology.origin()
    }

    /// Returns the service's endpoint, which is the origin's web server.
    #[must_use]
    pub fn service(&self, family: Family) -> SocketAddr {
        self.origin().web(family)
    }

    /// Returns the processes of firstack.
    pub fn processes(&self) -> Result<&Processes> {
        self.processes.as_ref().ok_or_else(|| LabError::Topology("firstack does not run".into()))
    }

    /// Removes and returns the processes of firstack, to stop them.
    pub fn take_processes(&mut self) -> Result<Processes> {
        self.processes.take().ok_or_else(|| LabError::Topology("firstack does not run".into()))
    }

    /// Restores processes that [`World::take_processes`] returned.
    pub fn return_processes(&mut self, processes: Processes) {
        self.processes = Some(processes);
    }

    /// Returns a file of the web servers, and its contents.
    pub fn file(&self, name: &str) -> Result<(&ContentFile, Vec<u8>)> {
        let known = self.content.file(name);
        let known = known.ok_or_else(|| LabError::Topology(format!("no file {name}")))?;
        let path = self.lab.directory().join("content").join(name);
        let bytes = std::fs::read(&path).map_err(|source| LabError::File { path, source })?;
        Ok((known, bytes))
    }

    /// Fetches a file from a web server's address.
    pub fn fetch(&self, from: SocketAddr, name: &str) -> Result<Fetched> {
        Curl::to(from, name).discard().run(&self.client().host)
    }

    /// Fetches a file `count` times, `at_a_time` of them concurrently. Returns the responses with
    /// status 200 in the order in which they were requested, and the other errors.
    #[must_use]
    pub fn fetch_many(
        &self,
        from: SocketAddr,
        name: &str,
        count: usize,
        at_a_time: usize,
    ) -> (Vec<Fetched>, Vec<String>) {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return;
                }
                let result = match self.fetch(from, name) {
                    Ok(fetched) if fetched.status == 200 => Ok(fetched),
                    Ok(fetched) => Err(format!("HTTP status {}", fetched.status)),
                    Err(error) => Err(error.to_string()),
                };
                done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..at_a_time {
                scope.spawn(work);
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(number, _)| *number);
        let (good, failed): (Vec<_>, Vec<_>) =
            done.into_iter().map(|(_, result)| result).partition(Result::is_ok);
        let failed = failed.into_iter().filter_map(Result::err).collect();
        (good.into_iter().flatten().collect(), failed)
    }

    /// Kills a replica's web server (SIGKILL).
    pub fn kill_server(&mut self, number: usize) -> Result<()> {
        if let Some(mut server) = self.servers[number].take() {
            server.process().signal(Signal::SIGKILL);
            server.process().wait(Duration::from_secs(60))?;
        }
        Ok(())
    }

    /// Kills a replica's appliance (SIGKILL).
    pub fn kill_appliance(&mut self, number: usize) -> Result<()> {
        let processes = self.processes.as_mut();
        processes.map_or(Ok(()), |processes| processes.replica_mut(number).kill())
    }

    /// Starts a replica's web server again.
    pub fn start_server(&mut self, number: usize) -> Result<()> {
        let place = &self.topology.replicas()[number - 1];
        let old = self.lab.directory().join(format!("nginx-{}", place.site));
        std::fs::remove_dir_all(&old).map_err(|source| LabError::File { path: old, source })?;
        self.servers[number] = Some(WebServer::start(&self.lab, place, &self.content)?);
        Ok(())
    }

    /// Starts a replica's appliance again.
    pub fn start_appliance(&mut self, number: usize) -> Result<()> {
        let processes = self.processes.as_mut();
        processes.map_or(Ok(()), |processes| processes.replica_mut(number).start(&self.lab))
    }

    /// Starts a replica's web server and appliance again.
    pub fn revive(&mut self, number: usize) -> Result<()> {
        self.start_server(number)?;
        self.start_appliance(number)
    }

    /// Reads the web servers' access logs. Returns the names of the sites that responded to each
    /// endpoint at the clients' site. Health checks are left out.
    #[must_use]
    pub fn answered(&self) -> BTreeMap<SocketAddr, BTreeSet<String>> {
        let mut answered = BTreeMap::<_, BTreeSet<_>>::new();
        for (place, server) in self.topology.servers().iter().zip(&self.servers) {
            let log = server.as_ref().map(WebServer::access_log).unwrap_or_default();
            for client in log.lines().filter_map(client_of).filter(is_client) {
                answered.entry(client).or_default().insert(place.site.name());
            }
        }
        answered
    }

    /// Stops everything and returns the WAN's counters.
    #[must_use]
    pub fn finish(self) -> Report {
        let Self { processes, servers, topology, content: _, lab } = self;
        drop((processes, servers));
        let report = topology.finish();
        drop(lab);
        report
    }

    /// Returns the half-open connections of a site's kernel, one per line.
    pub fn half_open(place: &Place) -> Result<String> {
        let words = ["ss", "-H", "-t", "-a", "-n", "state", "syn-recv"];
        place.host.run(&words).map(|output| output.stdout)
    }
}

/// Returns the client's endpoint in a line of an access log, which precedes the first space.
fn client_of(line: &str) -> Option<SocketAddr> {
    let (address, port) = line.split(' ').next()?.rsplit_once(':')?;
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

fn is_client(endpoint: &SocketAddr) -> bool {
    match endpoint.ip() {
        IpAddr::V4(address) => Site::Client.gateway().contains(&address),
        IpAddr::V6(address) => Site::Client.gateway_ipv6().contains(&address),
    }
}
