//! The topology of firstack: clients, origin and replicas around a WAN, with or without
//! appliances.
//!
//! ```text
//! client -- [appliance] --.                    .-- [appliance] -- origin
//!                          firstack-wan (WAN) <
//!                                              `-- [appliance] -- replica1 ...
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::behind_switch;
use super::error::{LabError, Result, at};
use super::management;
use super::namespace::{Lab, Namespace};
use super::process::Process;
use super::site::{MOST_REPLICAS, Place, Site, Station};
use super::wan::{LinkConfig, PortConfig, Report, RouteConfig, WanConfig};

/// Time that the WAN has to come up.
const START: Duration = Duration::from_secs(60);

/// Describes a topology, then builds it in a [`Lab`].
///
/// ```no_run
/// use firstack_tests::lab::{Content, Curl, Lab, Site, Topology, WebServer};
///
/// let lab = Lab::new("race")?;
/// let topology = Topology::builder()
///     .replicas(2)
///     .delay(Site::Client, Site::Origin, 40.0)
///     .delay(Site::Client, Site::Replica(1), 5.0)
///     .delay(Site::Client, Site::Replica(2), 20.0)
///     .delay(Site::Origin, Site::Replica(1), 35.0)
///     .delay(Site::Origin, Site::Replica(2), 30.0)
///     .build(&lab)?;
/// let content = Content::generate(&lab, &[("100MB", 100_000_000)])?;
/// let mut servers = Vec::new();
/// for place in topology.servers() {
///     servers.push(WebServer::start(&lab, place, &content)?);
/// }
/// // ... run the appliances in place.appliance, then:
/// let answer = Curl::new(&topology.origin().url("/")).run(&topology.client().host)?;
/// println!("{} answered after {:?}", answer.site, answer.connect);
/// # Ok::<(), firstack_tests::lab::LabError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TopologyBuilder {
    replicas: usize,
    direct: bool,
    ipv6: bool,
    management: bool,
    client_addresses: u8,
    narrow: Option<(Site, u16)>,
    behind_switch: f64,
    links: Vec<LinkConfig>,
    routes: Vec<RouteConfig>,
    seed: u64,
    captures: Option<(PathBuf, u32)>,
    longest: Duration,
    wan_binary: Option<PathBuf>,
}

impl Default for TopologyBuilder {
    fn default() -> Self {
        Self {
            replicas: 1,
            direct: false,
            ipv6: false,
            management: false,
            client_addresses: 1,
            narrow: None,
            behind_switch: 0.0,
            links: Vec::new(),
            routes: Vec::new(),
            seed: 1,
            captures: None,
            longest: Duration::from_secs(600),
            wan_binary: None,
        }
    }
}

impl TopologyBuilder {
    /// How many replica sites (default 1).
    #[must_use]
    pub fn replicas(mut self, number: usize) -> Self {
        self.replicas = number;
        self
    }

    /// Leaves the appliances out: hosts are cabled to the WAN, to see times without firstack.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Gives hosts and the WAN IPv6 addresses as well.
    #[must_use]
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.ipv6 = ipv6;
        self
    }

    /// Joins the servers and their appliances by a network of their own, for health probes;
    /// [`Site::management`] has its addresses.
    #[must_use]
    pub fn management(mut self, management: bool) -> Self {
        self.management = management;
        self
    }

    /// Gives the client host so many addresses, 198.18.1.10 and the next ones (up to 200).
    #[must_use]
    pub fn client_addresses(mut self, number: u8) -> Self {
        self.client_addresses = number;
        self
    }

    /// Sets the one-way delay between two sites, both ways alike.
    #[must_use]
    pub fn delay(self, a: Site, b: Site, milliseconds: f64) -> Self {
        self.link(a, b, LinkConfig { both: true, ..LinkConfig::delay(milliseconds) })
    }

    /// Puts the origin server so many milliseconds (one way) behind its switch, on the only way to it
    /// (default 0: it is cabled to the switch). [`TopologyBuilder::delay`] then says how far the
    /// switch is from the other sites.
    #[must_use]
    pub fn behind_switch(mut self, milliseconds: f64) -> Self {
        self.behind_switch = milliseconds;
        self
    }

    /// Sets all about the link from one site to another, and back when `link.both` is set.
    #[must_use]
    pub fn link(mut self, from: Site, to: Site, link: LinkConfig) -> Self {
        self.links.push(LinkConfig { from: Some(from.name()), to: Some(to.name()), ..link });
        self
    }

    /// Lets no IP packet larger than `mtu` pass between a site and any other, either way; links
    /// keep their delays, and those with an MTU of their own keep that.
    #[must_use]
    pub fn narrow(mut self, site: Site, mtu: u16) -> Self {
        self.narrow = Some((site, mtu));
        self
    }

    /// Adds a route of the WAN besides the sites' own prefixes; `port` is a site's name.
    #[must_use]
    pub fn route(mut self, route: RouteConfig) -> Self {
        self.routes.push(route);
        self
    }

    /// Seeds loss and jitter (default 1).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Captures what the WAN sees at every site: `wan-client.pcap` and so on in a directory
    /// that exists, the first `snaplen` bytes of each frame.
    #[must_use]
    pub fn captures(mut self, directory: impl Into<PathBuf>, snaplen: u32) -> Self {
        self.captures = Some((directory.into(), snaplen));
        self
    }

    /// Ends the WAN by itself after so long (default 10 minutes).
    #[must_use]
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Where `firstack-wan` is, if not beside this program and not named in `FIRSTACK_WAN`.
    #[must_use]
    pub fn wan_binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.wan_binary = Some(path.into());
        self
    }

    /// Builds it: namespaces, cables, addresses, routes, and the WAN running.
    pub fn build(self, lab: &Lab) -> Result<Topology> {
        if self.replicas > MOST_REPLICAS || !(1..=200).contains(&self.client_addresses) {
            let what = format!("at most {MOST_REPLICAS} replicas and 1 to 200 client addresses");
            return Err(LabError::Topology(what));
        }
        let sites: Vec<_> = [Site::Client, Site::Origin]
            .into_iter()
            .chain((1..=self.replicas).map(Site::Replica))
            .collect();
        let config = self.wan_config(&sites);
        config.check()?;
        let binary = match self.wan_binary.clone() {
            Some(path) => path,
            None => find_wan()?,
        };
        let wan = lab.namespace("wan")?;
        let far = self.behind_switch > 0.0;
        let router = if far { Some(lab.namespace("behind-switch")?) } else { None };
        let places = sites.iter().map(|site| self.place(lab, (&wan, router.as_ref()), *site));
        let places = places.collect::<Result<Vec<_>>>()?;
        if self.management {
            management::build(lab, &places[1..])?;
        }
        let process = self.start(lab, &wan, &binary, &config)?;
        let behind_switch = match &router {
            Some(router) => {
                let config = behind_switch::config(self.behind_switch, self.ipv6);
                Some(self.start(lab, router, &binary, &config)?)
            }
            None => None,
        };
        Ok(Topology { places, wan, process, behind_switch, config })
    }

    /// Starts `firstack-wan` in a namespace and waits until it forwards.
    fn start(
        &self,
        lab: &Lab,
        namespace: &Namespace,
        binary: &Path,
        config: &WanConfig,
    ) -> Result<Process> {
        let file = lab.directory().join(format!("{}.toml", namespace.name()));
        let text = toml::to_string(config).map_err(|e| LabError::Topology(e.to_string()))?;
        std::fs::write(&file, text).map_err(at(&file))?;
        let (binary, file) = (binary.to_string_lossy(), file.to_string_lossy());
        let longest = self.longest.as_secs_f64().to_string();
        let words = [&*binary, "--config", &*file, "--max-seconds", &longest];
        let mut process = lab.spawn(namespace, &words)?;
        process.wait_for("ready", START)?;
        Ok(process)
    }

    fn wan_config(&self, sites: &[Site]) -> WanConfig {
        let ports = sites.iter().map(|site| PortConfig {
            name: site.name(),
            interface: site.name(),
            ipv4: Some(site.gateway()),
            ipv6: self.ipv6.then(|| site.gateway_ipv6()),
            pcap: self.captures.as_ref().map(|(dir, _)| dir.join(format!("wan-{site}.pcap"))),
            pcap_snaplen: self.captures.as_ref().map(|(_, snaplen)| *snaplen),
        });
        WanConfig {
            seed: self.seed,
            ports: ports.collect(),
            routes: self.wan_routes(),
            links: self.wan_links(),
        }
    }

    fn wan_routes(&self) -> Vec<RouteConfig> {
        let mut routes = self.routes.clone();
        if self.behind_switch > 0.0 {
            routes.extend(behind_switch::routes(self.ipv6));
        }
        routes
    }

    fn wan_links(&self) -> Vec<LinkConfig> {
        let mut links = self.links.clone();
        if let Some((site, mtu)) = self.narrow {
            let site = Some(site.name());
            for link in links.iter_mut().filter(|link| link.from == site || link.to == site) {
                link.mtu.get_or_insert(mtu);
            }
            // A later link that names a pair stands for it: this one is for those without any.
            let any =
                LinkConfig { from: site, mtu: Some(mtu), both: true, ..LinkConfig::default() };
            links.insert(0, any);
        }
        links
    }

    fn place(
        &self,
        lab: &Lab,
        (wan, behind_switch): (&Namespace, Option<&Namespace>),
        site: Site,
    ) -> Result<Place> {
        let host = lab.namespace(&site.name())?;
        // A host that remembers paths would carry one run's figures into the next.
        host.sysctl("net.ipv4.tcp_no_metrics_save", "1")?;
        if self.ipv6 {
            host.ipv6(true)?;
        }
        let mac = |station| site.mac(station);
        let [router, inside, outside, own] =
            [Station::Router, Station::Inside, Station::Outside, Station::Host].map(mac);
        let port = site.name();
        let mut host_end = (&host, "eth0", Some(own.as_str()));
        if let (Site::Origin, Some(router)) = (site, behind_switch) {
            host_end = behind_switch::cable(lab, router, host_end)?;
        }
        let wan_end = (wan, port.as_str(), Some(router.as_str()));
        let appliance = if self.direct {
            lab.veth_with_macs(host_end, wan_end)?;
            None
        } else {
            let appliance = lab.namespace(&format!("{site}-appliance"))?;
            lab.veth_with_macs(host_end, (&appliance, "inside", Some(&inside)))?;
            lab.veth_with_macs((&appliance, "outside", Some(&outside)), wan_end)?;
            Some(appliance)
        };
        self.configure(&host, site)?;
        Ok(Place { site, host, appliance })
    }

    fn configure(&self, host: &Namespace, site: Site) -> Result<()> {
        let gateway = site.gateway();
        let length = gateway.prefix_len();
        host.address("eth0", &format!("{}/{length}", site.address()))?;
        if site == Site::Client {
            for address in client_addresses(self.client_addresses).skip(1) {
                host.address("eth0", &format!("{address}/{length}"))?;
            }
        }
        host.route("default", &gateway.addr().to_string())?;
        if self.ipv6 {
            let gateway = site.gateway_ipv6();
            host.address("eth0", &format!("{}/{}", site.ipv6(), gateway.prefix_len()))?;
            host.route("default", &gateway.addr().to_string())?;
        }
        Ok(())
    }
}

fn client_addresses(number: u8) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(Site::Client.address());
    (0..u32::from(number)).map(move |offset| Ipv4Addr::from(first + offset))
}

/// Looks for `firstack-wan`: `FIRSTACK_WAN`, beside this program, or (tests) one level up.
fn find_wan() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FIRSTACK_WAN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().unwrap_or_default();
    let above = own.ancestors().skip(1).take(2).map(|directory| directory.join("firstack-wan"));
    above.into_iter().find(|path| path.is_file()).ok_or(LabError::NoWan { beside: own })
}

/// A topology that stands, with its WAN running. Drop it before its [`Lab`].
#[derive(Debug)]
pub struct Topology {
    places: Vec<Place>,
    wan: Namespace,
    process: Process,
    behind_switch: Option<Process>,
    config: WanConfig,
}

impl Topology {
    /// Starts a description.
    #[must_use]
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder::default()
    }

    /// The clients' site.
    #[must_use]
    pub fn client(&self) -> &Place {
        &self.places[0]
    }

    /// The origin's site, whose address is the service's.
    #[must_use]
    pub fn origin(&self) -> &Place {
        &self.places[1]
    }

    /// The replicas' sites, number 1 first.
    #[must_use]
    pub fn replicas(&self) -> &[Place] {
        &self.places[2..]
    }

    /// Sites with a web server: the origin, then the replicas.
    #[must_use]
    pub fn servers(&self) -> &[Place] {
        &self.places[1..]
    }

    /// All sites.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Namespace of the WAN, with one interface per site, called as the site is.
    #[must_use]
    pub fn wan(&self) -> &Namespace {
        &self.wan
    }

    /// What the WAN runs with.
    #[must_use]
    pub fn wan_config(&self) -> &WanConfig {
        &self.config
    }

    /// The WAN's process, for what it prints and whether it runs.
    pub fn wan_process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends the WAN and returns its counters, and those of the router behind the switch.
    #[must_use]
    pub fn finish(self) -> Report {
        let behind_switch = self.behind_switch.map(Process::stop).unwrap_or_default();
        Report::from_json_lines(&format!("{}\n{behind_switch}", self.process.stop()))
    }
}
