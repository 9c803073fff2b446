//! The network of the demonstration, and what is asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::wan::Report;
use crate::lab::{
    Content, ContentFile, Curl, Family, Fetched, Lab, LabError, Place, Result, Site, Topology,
    TopologyBuilder, WebServer,
};
use crate::processes::{Configuration, ProcessOptions, Processes};

/// One-way delays in milliseconds.
///
/// A replica's first answer takes client to origin, origin to replica, replica to client: 95 ms
/// by replica 1, 120 ms by replica 2, against the origin's 140 ms. A busy machine may be late by the
/// 20 ms or more between them: no claim depends on that.
pub const DELAYS: [(Site, Site, f64); 5] = [
    (Site::Client, Site::Origin, 70.0),
    (Site::Client, Site::Replica(1), 5.0),
    (Site::Client, Site::Replica(2), 20.0),
    (Site::Origin, Site::Replica(1), 20.0),
    (Site::Origin, Site::Replica(2), 30.0),
];
/// Live connections from which on replica 2 is busy.
pub const BUSY: u32 = 40;
/// What every web server offers.
const FILES: [(&str, u64); 3] = [("4KB", 4_000), ("1MB", 1_000_000), ("100MB", 100_000_000)];
/// Bytes of each frame that the WAN's captures keep: all headers.
const SNAPLEN: u32 = 128;
/// The demonstration ends by itself.
const LONGEST: Duration = Duration::from_secs(1800);

fn topology() -> TopologyBuilder {
    let builder = Topology::builder().replicas(2).longest(LONGEST);
    DELAYS.iter().fold(builder, |builder, (a, b, delay)| builder.delay(*a, *b, *delay))
}

/// A network that stands: hosts, web servers, WAN, and with or without firstack.
#[derive(Debug)]
pub struct World {
    fleet: Option<Processes>,
    servers: Vec<Option<WebServer>>,
    topology: Topology,
    content: Content,
    lab: Lab,
}

impl World {
    /// Without firstack: hosts are cabled to the WAN.
    pub fn direct() -> Result<Self> {
        Self::build("direct", topology().direct(true).ipv6(true), &FILES, None)
    }

    /// With firstack at every site, for services of some families; captures of what the WAN
    /// sees go to a directory that exists, if to any.
    pub fn with_firstack(
        configuration: Configuration,
        families: &[Family],
        captures: Option<&Path>,
    ) -> Result<Self> {
        let options = ProcessOptions {
            configuration,
            families: families.to_vec(),
            max_connections: vec![None, Some(BUSY)],
            ..ProcessOptions::default()
        };
        let topology = match captures {
            Some(directory) => topology().captures(directory, SNAPLEN),
            None => topology(),
        };
        Self::build("demo", topology, &FILES, Some(&options))
    }

    /// Any topology, with a web server at every site that has the files, and with firstack when
    /// there are options for it; the topology gets what those need.
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
        let fleet =
            firstack.map(|options| Processes::start(&lab, &topology, options)).transpose()?;
        Ok(Self { fleet, servers, topology, content, lab })
    }

    /// The laboratory that it stands in.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its sites.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The clients' site.
    #[must_use]
    pub fn client(&self) -> &Place {
        self.topology.client()
    }

    /// The origin's site.
    #[must_use]
    pub fn origin(&self) -> &Place {
        self.topology.origin()
    }

    /// Where clients find the service: the origin's web server.
    #[must_use]
    pub fn service(&self, family: Family) -> SocketAddr {
        self.origin().web(family)
    }

    /// The processes of firstack.
    pub fn fleet(&self) -> Result<&Processes> {
        self.fleet.as_ref().ok_or_else(|| LabError::Topology("firstack does not run".into()))
    }

    /// Takes the processes of firstack out, to end them.
    pub fn take_fleet(&mut self) -> Result<Processes> {
        self.fleet.take().ok_or_else(|| LabError::Topology("firstack does not run".into()))
    }

    /// Gives processes back that were taken out.
    pub fn give_fleet(&mut self, fleet: Processes) {
        self.fleet = Some(fleet);
    }

    /// A file that every web server has.
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

    /// Fetches a file several times: answers that say 200, and what went wrong with the others.
    #[must_use]
    pub fn fetch_many(
        &self,
        from: SocketAddr,
        name: &str,
        count: usize,
    ) -> (Vec<Fetched>, Vec<String>) {
        let (mut good, mut failed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match self.fetch(from, name) {
                Ok(fetched) if fetched.status == 200 => good.push(fetched),
                Ok(fetched) => failed.push(format!("HTTP status {}", fetched.status)),
                Err(error) => failed.push(error.to_string()),
            }
        }
        (good, failed)
    }

    /// Kills a replica's web server outright.
    pub fn kill_server(&mut self, number: usize) -> Result<()> {
        if let Some(mut server) = self.servers[number].take() {
            server.process().signal(Signal::SIGKILL);
            server.process().wait(Duration::from_secs(60))?;
        }
        Ok(())
    }

    /// Kills a replica's appliance outright.
    pub fn kill_appliance(&mut self, number: usize) -> Result<()> {
        let fleet = self.fleet.as_mut();
        fleet.map_or(Ok(()), |fleet| fleet.replica_mut(number).kill())
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
        let fleet = self.fleet.as_mut();
        fleet.map_or(Ok(()), |fleet| fleet.replica_mut(number).start(&self.lab))
    }

    /// Starts a replica's web server and appliance again.
    pub fn revive(&mut self, number: usize) -> Result<()> {
        self.start_server(number)?;
        self.start_appliance(number)
    }

    /// Reads the requests that the web servers have answered: for each endpoint at the clients'
    /// site, the names of the sites that answered it. Probes of health are left out.
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

    /// Ends all that is left of it; the WAN's counters.
    #[must_use]
    pub fn finish(self) -> Report {
        let Self { fleet, servers, topology, content: _, lab } = self;
        drop((fleet, servers));
        let report = topology.finish();
        drop(lab);
        report
    }

    /// Connections that the kernel of a site holds half open, one a line.
    pub fn half_open(place: &Place) -> Result<String> {
        let words = ["ss", "-H", "-t", "-a", "-n", "state", "syn-recv"];
        place.host.run(&words).map(|output| output.stdout)
    }
}

/// The client of a line of an access log: its address and port before the first space.
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
