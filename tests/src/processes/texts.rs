//! The configuration files of the processes.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::options::{Configuration, OriginServer, ProcessOptions, TunnelFormat};
use crate::lab::{Family, Lab, Site, Topology};

/// Frames that the kernel queues for a port, in each direction: a fast replica's bursts exceed the
/// driver's default of 512.
const FRAMES: u32 = 2048;

/// "gateway", "switch", "replica1" ...
pub(super) fn name(site: Site) -> String {
    match site {
        Site::Replica(_) => site.name(),
        _ => role(site).into(),
    }
}

/// Returns the path of a process's control socket.
pub(super) fn socket(lab: &Lab, site: Site) -> PathBuf {
    lab.directory().join(format!("{}.sock", name(site)))
}

/// Returns the path of a process's key file.
pub(super) fn keys(lab: &Lab, site: Site) -> PathBuf {
    lab.directory().join(format!("{}.keys", name(site)))
}

/// Returns the file of the process at a site.
pub(super) fn file(
    lab: &Lab,
    topology: &Topology,
    options: &ProcessOptions,
    site: Site,
    cores: &[usize],
) -> String {
    let further = &options.further;
    let (own, further) = match site {
        Site::Client => (gateway(topology, options), &further.gateway),
        Site::Origin => (switch(topology, options), &further.switch),
        Site::Replica(number) => (replica(number, options), &further.replica),
    };
    let (role, common, some) = (role(site), common(lab, site, cores), some(lab, site, options));
    format!("role = \"{role}\"\n{common}{some}{own}\n{further}")
}

fn role(site: Site) -> &'static str {
    match site {
        Site::Client => "gateway",
        Site::Origin => "switch",
        Site::Replica(_) => "replica",
    }
}

/// Writes the sections of all files.
fn common(lab: &Lab, site: Site, cores: &[usize]) -> String {
    let name = name(site);
    let prefix = lab.directory().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let socket = socket(lab, site);
    format!(
        r#"
[eal]
file_prefix = "{prefix}-{name}"
args = ["--no-huge", "-m", "96"]

[port.inside]
device = "net_af_packet0,iface=inside,framecnt={FRAMES}"

[port.outside]
device = "net_af_packet1,iface=outside,framecnt={FRAMES}"

[worker]
cores = {cores:?}
poll = "adaptive"

[memory]
mbufs = 8192

[control]
socket = "{}"
"#,
        socket.display()
    )
}

/// Writes the sections that differ from the defaults.
fn some(lab: &Lab, site: Site, options: &ProcessOptions) -> String {
    let mut text = String::new();
    let format = (options.tunnel_format != TunnelFormat::default())
        .then(|| format!("format = \"{}\"\n", options.tunnel_format));
    let path_mtu = options.path_mtu.map(|mtu| format!("path_mtu = {mtu}\n"));
    section(&mut text, "tunnel", [format, path_mtu]);
    let keys = options.keys.as_ref().map(|_| format!("keys = \"{}\"\n", keys(lab, site).display()));
    let required = keys.as_ref().filter(|_| site != Site::Client);
    let required = required.map(|_| "require_signature = true\n".to_string());
    section(&mut text, "tag", [keys, required]);
    let health = options.health.map(|health| {
        let (interval, timeout) = (health.interval.as_millis(), health.interval.as_millis() / 2);
        let (rise, fall) = (health.rise, health.fall);
        format!(
            "interval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\nrise = {rise}\nfall = {fall}\n"
        )
    });
    section(&mut text, "health", [health]);
    text
}

fn section<const N: usize>(text: &mut String, name: &str, keys: [Option<String>; N]) {
    let keys: String = keys.into_iter().flatten().collect();
    if !keys.is_empty() {
        let _ = write!(text, "\n[{name}]\n{keys}");
    }
}

/// Returns a service's name: "web", and "web6" for IPv6 beside IPv4.
fn service(options: &ProcessOptions, family: Family) -> &'static str {
    if options.families().len() > 1 && family == Family::V6 { "web6" } else { "web" }
}

fn gateway(topology: &Topology, options: &ProcessOptions) -> String {
    let mut text = String::new();
    if options.configuration != Configuration::default() {
        let _ = write!(text, "\n[gateway]\nconfiguration = \"{}\"\n", options.configuration);
    }
    for family in options.families() {
        let (name, address) = (service(options, *family), Site::Origin.address_of(*family));
        let address = if options.any_service { "any".into() } else { address.to_string() };
        let allowed = allowed_replicas(topology, *family);
        let _ = write!(
            text,
            "\n[[gateway.service]]\nname = \"{name}\"\naddress = \"{address}\"\nports = [80]\n\
             allowed_replicas = {allowed:?}\n{}",
            options.further.service
        );
        if options.any_service {
            // It is of both families.
            break;
        }
    }
    text
}

/// Returns the addresses of the replicas; without replicas, "any".
fn allowed_replicas(topology: &Topology, family: Family) -> Vec<String> {
    let addresses: Vec<_> =
        topology.replicas().iter().map(|replica| replica.address_of(family).to_string()).collect();
    if addresses.is_empty() { vec!["any".into()] } else { addresses }
}

fn switch(topology: &Topology, options: &ProcessOptions) -> String {
    let mut text = String::new();
    for family in options.families() {
        let (name, address) = (service(options, *family), Site::Origin.address_of(*family));
        let _ = write!(
            text,
            "\n[[switch.service]]\nname = \"{name}\"\naddress = \"{address}\"\nports = [80]\n"
        );
        for place in topology.replicas() {
            let (site, address) = (place.site, place.address_of(*family));
            let check = check(options.checks.replicas, site);
            let _ = write!(
                text,
                "\n[[switch.service.replica]]\nname = \"{site}\"\naddress = \"{address}\"\n{check}"
            );
        }
        servers(&mut text, options, *family);
    }
    text
}

/// Returns the origin servers of the service of a family.
fn servers(text: &mut String, options: &ProcessOptions, family: Family) {
    if options.servers.is_empty() {
        let check = check(options.checks.origin, Site::Origin);
        let _ = write!(text, "\n[[switch.service.server]]\nname = \"origin\"\n{check}");
    }
    let is_own = |server: &&OriginServer| server.address.is_ipv6() == (family == Family::V6);
    for OriginServer { name, address, check } in options.servers.iter().filter(is_own) {
        let check = check.map(|at| format!("check = \"tcp://{at}\"\n")).unwrap_or_default();
        let _ = write!(
            text,
            "\n[[switch.service.server]]\nname = \"{name}\"\ndelivery = \"direct\"\n\
             address = \"{address}\"\n{check}"
        );
    }
}

fn replica(number: usize, options: &ProcessOptions) -> String {
    let site = Site::Replica(number);
    let services: Vec<_> = options
        .families()
        .iter()
        .map(|family| Site::Origin.address_of(*family).to_string())
        .collect();
    let mut text = format!("\n[replica]\nname = \"{site}\"\nswitches = {services:?}\n");
    if let Some(most) = options.max_connections.get(number - 1).copied().flatten() {
        let _ = writeln!(text, "busy_connections = {most}");
    }
    for (family, address) in options.families().iter().zip(&services) {
        let (name, own) = (service(options, *family), site.address_of(*family));
        let check = check(options.checks.own, site);
        let _ = write!(
            text,
            "\n[[replica.service]]\nname = \"{name}\"\naddress = \"{address}\"\nports = [80]\n\
             \n[[replica.service.server]]\nname = \"{site}\"\naddress = \"{own}\"\n{check}"
        );
    }
    text
}

/// Returns the keys for probes of a site's web server.
fn check(wanted: bool, site: Site) -> String {
    if wanted { format!("check = \"http://{}/\"\n", site.management()) } else { String::new() }
}
