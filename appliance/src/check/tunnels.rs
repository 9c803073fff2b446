//! Tunnels: what a switch sends, a replica accepts; and what a gateway of configuration C and a replica
//! exchange fits the same path.

use std::net::IpAddr;

use pipeline::wire::configuration::Configuration;
use pipeline::wire::family::{V4, V6};
use pipeline::wire::tunnel::Format;

use super::Findings;
use super::file::File;
use super::services::{is_v6, makes_copies, raced_by, shown};
use crate::config::Tunnel;

/// Every IPv6 host may send packets of this length (RFC 8200, section 5).
const LEAST_MTU_V6: u16 = 1280;

pub(super) fn check(files: &[File], findings: &mut Findings) {
    let replicas: Vec<_> = files.iter().filter(|file| file.replica().is_some()).collect();
    let switches: Vec<_> = files.iter().filter(|file| file.switch().is_some()).collect();
    twice(&replicas, findings);
    for switch in &switches {
        copies(switch, &replicas, findings);
    }
    if !switches.is_empty() {
        replicas.iter().for_each(|replica| reached(replica, &switches, findings));
    }
    for gateway in files.iter().filter(|file| file.gateway().is_some()) {
        replicas.iter().for_each(|replica| room(gateway, replica, findings));
        switches.iter().for_each(|switch| formats(gateway, switch, findings));
    }
}

fn ends(file: &File) -> &[IpAddr] {
    file.replica().map(|replica| replica.tunnel_addresses.as_slice()).unwrap_or_default()
}

/// Returns the key of a replica's outer destinations.
const ENDS: &str = "replica.tunnel_addresses";

/// No two replicas have an outer destination in common.
fn twice(replicas: &[&File], findings: &mut Findings) {
    for (n, file) in replicas.iter().enumerate() {
        for end in ends(file) {
            if let Some(first) = replicas[..n].iter().find(|first| ends(first).contains(end)) {
                let message = format!(
                    "{end} is one of {} as well; expected each replica's own",
                    first.place(ENDS)
                );
                findings.mistake(file.place(ENDS), message);
            }
        }
    }
}

/// What a switch copies, its replicas accept and serve.
fn copies(file: &File, replicas: &[&File], findings: &mut Findings) {
    let services = file.switch().into_iter().flat_map(|switch| &switch.services).enumerate();
    for (i, service) in services.filter(|(_, service)| makes_copies(service)) {
        for (n, to) in service.replicas.iter().enumerate() {
            let key = format!("switch.service[{i}].replica[{n}].address");
            let Some(replica) = replicas.iter().find(|file| ends(file).contains(&to.address))
            else {
                if let Some(first) = replicas.first() {
                    let message = format!(
                        "{} is in none of the replicas' files, the first {}; expected the file of \
                         the replica that has it",
                        to.address,
                        first.place(ENDS)
                    );
                    findings.warning(file.place(&key), message);
                }
                continue;
            };
            let Some(own) = replica.replica() else { continue };
            if !own.switches.iter().any(|net| net.contains(&service.source)) {
                let message = format!(
                    "lacks {}, from which {} sends its copies; expected it here, or no copy is \
                     accepted",
                    service.source,
                    file.place(&format!("switch.service[{i}].source"))
                );
                findings.mistake(replica.place("replica.switches"), message);
            }
            for port in &service.ports {
                let serves =
                    own.services.iter().position(|own| own.address == service.address).map(|at| {
                        let all = own.services.iter().enumerate();
                        let mut all = all.filter(|(_, own)| own.address == service.address);
                        (at, all.any(|(_, own)| own.ports.contains(port)))
                    });
                let key = match serves {
                    Some((_, true)) => continue,
                    Some((at, false)) => format!("replica.service[{at}].ports"),
                    None => "replica.service".to_owned(),
                };
                let message = format!(
                    "lacks {}, whose SYNs {} copies to it; expected the service and its port here",
                    shown(service.address, *port),
                    file.place(&format!("switch.service[{i}].ports"))
                );
                findings.mistake(replica.place(&key), message);
            }
        }
    }
}

/// A replica is an outer destination of a switch, and has no service that no switch has.
fn reached(file: &File, switches: &[&File], findings: &mut Findings) {
    let services = || {
        let all = switches.iter().filter_map(|file| file.switch());
        all.flat_map(|switch| &switch.services)
    };
    let is_end = |end: &IpAddr| services().any(|s| s.replicas.iter().any(|r| r.address == *end));
    if !ends(file).iter().any(is_end) {
        let list: Vec<_> = ends(file).iter().map(ToString::to_string).collect();
        let message = format!(
            "{}: no switch sends copies there, {} lists others; expected one of these as the \
             address of a [[switch.service.replica]]",
            list.join(", "),
            switches[0].place("switch.service")
        );
        findings.mistake(file.place(ENDS), message);
    }
    let Some(own) = file.replica() else { return };
    for (i, service) in own.services.iter().enumerate() {
        for port in &service.ports {
            let has = services().any(|s| s.address == service.address && s.ports.contains(port));
            if !has {
                let message = format!(
                    "{} is a service of no switch, the first {}; expected it there, or gateways \
                     that ask directly",
                    shown(service.address, *port),
                    switches[0].place("switch.service")
                );
                findings.warning(file.place(&format!("replica.service[{i}].ports")), message);
            }
        }
    }
}

/// Under configuration C both ends know what fits the path, and IPv6 fits at all.
fn room(gateway: &File, file: &File, findings: &mut Findings) {
    let (Some(own), Some(replica)) = (gateway.gateway(), file.replica()) else { return };
    if own.configuration != Configuration::C {
        return;
    }
    let served = |v6: bool| {
        replica.services.iter().any(|service| {
            let raced = |port: &u16| raced_by(gateway, service.address, *port).is_some();
            is_v6(service.address) == v6 && service.ports.iter().any(raced)
        })
    };
    let (there, here) = (gateway.config.tunnel.path_mtu, file.config.tunnel.path_mtu);
    let configuration = gateway.place("gateway.configuration");
    let least = LEAST_MTU_V6 + overhead_v6(&file.config.tunnel);
    if served(true) && here < least {
        let message = format!(
            "{here} has no room for the IPv6 packets of {LEAST_MTU_V6} bytes that {configuration} = \
             \"C\" tunnels; expected at least {least}"
        );
        findings.mistake(file.place("tunnel.path_mtu"), message);
    } else if here != there && (served(true) || served(false)) {
        let message = format!(
            "{here}, but {} is {there}, and both are for the path between the two under {configuration} \
             = \"C\"; expected the same",
            gateway.place("tunnel.path_mtu")
        );
        findings.warning(file.place("tunnel.path_mtu"), message);
    }
}

/// Returns the most bytes in front of an IPv6 packet in a tunnel.
fn overhead_v6(tunnel: &Tunnel) -> u16 {
    let formats = tunnel.peers.iter().map(|peer| peer.format).chain([tunnel.format]);
    formats
        .map(|format| format.overhead::<V6>().max(format.overhead::<V4>()) as u16)
        .max()
        .unwrap_or(0)
}

/// Returns the format of tunnels to an address, and whether a peer says so.
fn format_to(tunnel: &Tunnel, to: IpAddr) -> (Format, bool) {
    let peer = tunnel.peers.iter().find(|peer| peer.prefix.contains(&to));
    peer.map_or((tunnel.format, false), |peer| (peer.format, true))
}

/// A format that one file sets for a replica's path is set in the other, if it tunnels there too.
fn formats(gateway: &File, switch: &File, findings: &mut Findings) {
    let (Some(own), Some(other)) = (gateway.gateway(), switch.switch()) else { return };
    let tunnels = own.configuration.data_in_tunnels()
        || own.services.iter().any(|service| service.direct > 0);
    let replicas = other.services.iter().flat_map(|service| &service.replicas);
    for to in replicas.map(|replica| replica.address).filter(|_| tunnels) {
        let (here, there) =
            (format_to(&gateway.config.tunnel, to), format_to(&switch.config.tunnel, to));
        if here.0 != there.0 && (here.1 || there.1) {
            let message = format!(
                "tunnels to {to} are {}, but {} has {} for it; expected the same where only one \
                 format passes",
                here.0.name(),
                switch.place("tunnel.peer"),
                there.0.name()
            );
            findings.warning(gateway.place("tunnel.format"), message);
        }
    }
}
