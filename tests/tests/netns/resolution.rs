//! A switch behind an ordinary Linux router, which has to resolve the service address and the source of
//! the switch's tunnels by itself: nothing but the switch answers for them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use firstack::control::socket::{self, Answer, Command};
use firstack::control::stats::Snapshot;
use firstack_tests::lab::{Lab, Namespace, Process};
use firstack_tests::scenario::binary::full;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use super::{MAX_WAIT, OrFail, alone, comes_true, generated};

/// The source of the switch's tunnels, which no host has.
const SOURCE: &str = "203.0.113.1";
/// The tunnel address of the replica.
const TUNNEL: &str = "198.51.100.9";

/// The addresses of one family: client, service, the origin server's own, the replica's web server, and
/// the router's on the three links.
struct Plan {
    client: &'static str,
    service: &'static str,
    server: &'static str,
    replica: &'static str,
    router: [&'static str; 3],
    /// The length of the links' prefixes.
    length: u8,
}

const V4: Plan = Plan {
    client: "198.18.1.10",
    service: "203.0.113.10",
    server: "203.0.113.21",
    replica: "198.51.100.10",
    router: ["198.18.1.254", "203.0.113.254", "198.51.100.254"],
    length: 24,
};
const V6: Plan = Plan {
    client: "2001:db8:c1::10",
    service: "2001:db8:5::10",
    server: "2001:db8:5::21",
    replica: "2001:db8:a::10",
    router: ["2001:db8:c1::fe", "2001:db8:5::fe", "2001:db8:a::fe"],
    length: 64,
};

/// A running firstack.
struct Appliance {
    process: Process,
    socket: PathBuf,
}

impl Appliance {
    fn start(lab: &Lab, at: &Namespace, config: &str) -> Self {
        let name = at.short_name();
        let socket = lab.directory().join(format!("{name}.sock"));
        let path = lab.directory().join(format!("{name}.toml"));
        let text = format!(
            "role = \"{name}\"\n\
             [eal]\nfile_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"64\"]\n\
             [control]\nsocket = \"{}\"\n\
             [memory]\nmbufs = 8192\n\
             [health]\ninterval = \"500ms\"\ntimeout = \"400ms\"\n\
             [port.inside]\ndevice = \"net_af_packet0,iface=in0\"\n\
             [port.outside]\ndevice = \"net_af_packet1,iface=out0\"\n{config}",
            at.name(),
            socket.display(),
        );
        fs::write(&path, text).unwrap();
        let runtime = format!("RUNTIME_DIRECTORY={}", lab.directory().display());
        let (binary, path) = (full().unwrap(), path.to_string_lossy());
        let words = ["env", &runtime, &*binary.to_string_lossy(), "run", "--json", "-c", &*path];
        let mut process = lab.spawn(at, &words).or_fail();
        process.wait_for("forwarding", MAX_WAIT).or_fail();
        Self { process, socket }
    }

    fn stats(&self) -> Snapshot {
        match socket::ask(&self.socket, Command::Stats).unwrap() {
            Answer::Stats(snapshot) => *snapshot,
            answer => panic!("{answer:?}"),
        }
    }

    fn finish(mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(MAX_WAIT).or_fail();
        assert!(status.success(), "{status}: {}", self.process.stderr());
    }
}

/// What is made in a namespace by a thread of its own; sockets stay there.
fn within<T: Send + 'static>(at: &Namespace, make: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/var/run/netns/{}", at.name())).unwrap();
    let inside = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        make()
    };
    thread::spawn(inside).join().unwrap()
}

/// Answers every connection to port 80 with a word, for as long as the test runs.
fn serve(at: &Namespace, address: &'static str, word: &'static str) {
    let address: IpAddr = address.parse().unwrap();
    let listener = within(at, move || TcpListener::bind((address, 80)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

/// Connects to the service; the word that it answers.
fn ask(client: &Namespace, service: &'static str) -> Option<String> {
    let to = SocketAddr::new(service.parse().unwrap(), 80);
    within(client, move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let mut word = String::new();
        stream.read_to_string(&mut word).ok()?;
        Some(word)
    })
}

struct World {
    client: Namespace,
    router: Namespace,
    switch: Namespace,
    appliances: [Appliance; 3],
    // Goes last.
    _lab: Lab,
}

/// Sets an address of a host that is connected by `eth0`, and its way out.
fn host(at: &Namespace, plan: &Plan, address: &str, router: &str) {
    if address.contains(':') {
        at.ipv6(true).or_fail();
    }
    at.address("eth0", &format!("{address}/{}", plan.length)).or_fail();
    at.route("default", router).or_fail();
}

impl World {
    /// client - gateway - router - switch - server, and router - replica - its web server.
    fn new(name: &str, plan: &Plan, source: &str) -> Self {
        let lab = Lab::new(name).or_fail();
        let names = ["client", "gateway", "router", "switch", "server", "replica", "web"];
        let [client, gateway, router, switch, server, replica, web] =
            names.map(|name| lab.namespace(name).or_fail());
        for (a, b) in [
            ((&client, "eth0"), (&gateway, "in0")),
            ((&gateway, "out0"), (&router, "clients")),
            ((&router, "origin"), (&switch, "out0")),
            ((&switch, "in0"), (&server, "eth0")),
            ((&router, "replicas"), (&replica, "out0")),
            ((&replica, "in0"), (&web, "eth0")),
        ] {
            lab.veth(a, b).or_fail();
        }
        router.ipv6(true).or_fail();
        router.sysctl("net.ipv4.ip_forward", "1").or_fail();
        router.sysctl("net.ipv6.conf.all.forwarding", "1").or_fail();
        let links = ["clients", "origin", "replicas"];
        for plan in [&V4, plan] {
            for (link, address) in links.iter().zip(plan.router) {
                // The IPv4 addresses are set twice where the plan is that of IPv4.
                let _ = router.address(link, &format!("{address}/{}", plan.length));
            }
        }
        host(&client, plan, plan.client, plan.router[0]);
        host(&server, plan, plan.server, plan.router[1]);
        host(&web, plan, plan.replica, plan.router[2]);
        // The server has the service's address, and does not answer for it.
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            server.sysctl(&format!("net.ipv4.conf.all.{key}"), value).or_fail();
        }
        let single = if plan.length == 24 { 32 } else { 128 };
        server.address("lo", &format!("{}/{single}", plan.service)).or_fail();
        serve(&server, plan.service, "origin");
        serve(&web, plan.replica, "replica");
        let Plan { service, server: own, replica: by, .. } = plan;
        let configs = [
            format!(
                "[[gateway.service]]\naddress = \"{service}\"\ndirect = 0\n\
                 allowed_replicas = [\"{by}\"]\n"
            ),
            format!(
                "[[switch.service]]\naddress = \"{service}\"\nname = \"web\"\n\
                 source = \"{source}\"\n\
                 [[switch.service.replica]]\nname = \"berlin\"\naddress = \"{TUNNEL}\"\n\
                 [[switch.service.server]]\nname = \"web1\"\ndelivery = \"direct\"\n\
                 address = \"{own}\"\n"
            ),
            format!(
                "[replica]\nswitches = [\"{source}\"]\ntunnel_addresses = [\"{TUNNEL}\"]\n\
                 [[replica.service]]\naddress = \"{service}\"\n\
                 [[replica.service.server]]\naddress = \"{by}\"\n"
            ),
        ];
        let [first, second, third] = configs;
        let appliances = [(&gateway, first), (&switch, second), (&replica, third)]
            .map(|(at, config)| Appliance::start(&lab, at, &config));
        Self { client, router, switch, appliances, _lab: lab }
    }

    fn stats(&self) -> Snapshot {
        self.appliances[1].stats()
    }

    /// The router's entry for an address.
    fn neighbour(&self, address: &str) -> String {
        self.router.run(&["ip", "neigh", "show", "to", address]).or_fail().stdout
    }
}

/// Clients are served, copies are made, and the router has resolved both addresses by the switch.
#[track_caller]
fn the_router_finds(name: &str, plan: &Plan) {
    let _alone = alone();
    let world = World::new(name, plan, SOURCE);
    let answered = comes_true(MAX_WAIT, || ask(&world.client, plan.service).is_some());
    assert!(answered, "nobody answers: {} {}", world.neighbour(plan.service), world.stats());
    let mut words = Vec::new();
    let copied = comes_true(MAX_WAIT, || {
        words.extend(ask(&world.client, plan.service));
        let stats = world.stats();
        // Probes that go unanswered take the replica out after some seconds.
        generated(&stats, "tunnel_probes") >= 10
            && stats.verdict("probe_returned") >= 5
            && generated(&stats, "copies") > 0
    });
    assert!(copied, "{} {}", world.neighbour(SOURCE), world.stats());
    let stats = world.stats();
    assert!(stats.out_of_service.is_empty() && !words.is_empty(), "{stats}");
    assert!(words.iter().all(|word| word == "origin" || word == "replica"), "{words:?}");
    let mac = world.switch.run(&["cat", "/sys/class/net/out0/address"]).or_fail().stdout;
    for address in [plan.service, SOURCE] {
        let entry = world.neighbour(address);
        assert!(entry.contains(mac.trim()), "{address} is not at {mac}: {entry}");
    }
    assert!(generated(&stats, "neighbour_replies") >= 2, "{stats}");
    let World { appliances, .. } = world;
    appliances.into_iter().for_each(Appliance::finish);
}

#[test]
fn a_linux_router_finds_an_ipv4_service_and_the_source_of_its_copies() {
    the_router_finds("resolve4", &V4);
}

#[test]
fn a_linux_router_finds_an_ipv6_service_and_the_ipv4_source_of_its_copies() {
    the_router_finds("resolve6", &V6);
}
