//! The services of gateways against those of switches and replicas: addresses and ports, which clients
//! race, and who may win.

use std::net::IpAddr;

use ipnet::IpNet;
use pipeline::wire::configuration::Configuration;
use pipeline::wire::family::Version;

use super::Findings;
use super::file::File;
use crate::config::{
    Content, GatewayService, Replica, ReplicaService, Role, ServiceAddress, SwitchService,
};

/// The longest `timeouts.reuse_after` of a gateway under A and B: for so long a replica takes a SYN with
/// a new sequence number for one of the same client.
const LONGEST_REUSE: u64 = 10;

pub(super) fn check(files: &[File], findings: &mut Findings) {
    let gateways: Vec<_> = files.iter().filter(|file| file.gateway().is_some()).collect();
    let switches: Vec<_> = files.iter().filter(|file| file.switch().is_some()).collect();
    let replicas: Vec<_> = files.iter().filter(|file| file.replica().is_some()).collect();
    if !gateways.is_empty() {
        switches.iter().for_each(|switch| raced_somewhere(switch, &gateways, findings));
    }
    if !switches.is_empty() {
        gateways.iter().for_each(|gateway| copied_somewhere(gateway, &switches, findings));
    }
    for gateway in &gateways {
        for other in switches.iter().chain(&replicas) {
            clients(gateway, other, findings);
        }
        for replica in &replicas {
            may_win(gateway, replica, findings);
            lifetimes(gateway, replica, findings);
        }
    }
}

/// Every port that a switch copies is raced by a gateway.
fn raced_somewhere(file: &File, gateways: &[&File], findings: &mut Findings) {
    let services = file.switch().into_iter().flat_map(|switch| &switch.services).enumerate();
    for (i, service) in services.filter(|(_, service)| makes_copies(service)) {
        for port in &service.ports {
            let raced = |file: &&&File| raced_by(file, service.address, *port).is_some();
            if gateways.iter().any(|file| raced(&file)) {
                continue;
            }
            let nearest = gateways.iter().find_map(|gateway| {
                let number = covering(gateway, service.address)?;
                Some(gateway.place(&format!("{}.ports", gateway.gateway_service(number))))
            });
            let nearest = nearest.unwrap_or_else(|| gateways[0].place("gateway.service"));
            let message = format!(
                "{} is tagged by no gateway: {nearest} lacks it; expected the same ports on both \
                 sides",
                shown(service.address, *port)
            );
            findings.mistake(file.place(&format!("switch.service[{i}].ports")), message);
        }
    }
}

/// Every port that a gateway races is copied by a switch.
fn copied_somewhere(file: &File, switches: &[&File], findings: &mut Findings) {
    let services = file.gateway().into_iter().flat_map(|gateway| &gateway.services).enumerate();
    for (number, service) in services {
        let path = file.gateway_service(number);
        let of = |switch: &&File| {
            let services = switch.switch().into_iter().flat_map(|switch| &switch.services);
            let own = services.enumerate().filter(|(_, own)| service.address.contains(own.address));
            own.map(|(i, _)| i).collect::<Vec<_>>()
        };
        let has_any = switches.iter().any(|switch| !of(switch).is_empty());
        if !has_any {
            let message = format!(
                "{} is a service of no switch, the first {}; expected [[switch.service]] with it, \
                 or no copies are made",
                service.address,
                switches[0].place("switch.service")
            );
            let place = file.place(&format!("{path}.address"));
            match single(service).is_some() && service.warm.is_empty() {
                true => findings.mistake(place, message),
                // Others, which are not given, may have the rest of a prefix.
                false => findings.warning(place, message),
            }
            continue;
        }
        let Some(address) = single(service) else { continue };
        for port in &service.ports {
            let has = |switch: &&&File| {
                let services = switch.switch().into_iter().flat_map(|switch| &switch.services);
                services.into_iter().any(|own| own.address == address && own.ports.contains(port))
            };
            if switches.iter().any(|switch| has(&switch)) {
                continue;
            }
            let lacking = switches.iter().find_map(|switch| {
                let i = *of(switch).first()?;
                Some(switch.place(&format!("switch.service[{i}].ports")))
            });
            let Some(lacking) = lacking else { continue };
            let message = format!(
                "{} is tagged, but {lacking} lacks it, and the origin gets the tag; expected the \
                 same ports on both sides",
                shown(address, *port)
            );
            findings.mistake(file.place(&format!("{path}.ports")), message);
        }
    }
}

/// Clients that a gateway lists are not refused elsewhere.
fn clients(gateway: &File, other: &File, findings: &mut Findings) {
    let (key, allowed) = match &other.config.role {
        Role::Switch(switch) => ("switch.allowed_clients", &switch.allowed_clients),
        Role::Replica(replica) => ("replica.allowed_clients", &replica.allowed_clients),
        Role::Gateway(_) => return,
    };
    let listed = gateway.gateway().into_iter().flat_map(|gateway| &gateway.allowed_clients);
    for (i, client) in listed.enumerate() {
        let overlaps = |own: &IpNet| own.contains(client) || client.contains(own);
        if !allowed.is_empty() && !allowed.iter().any(overlaps) {
            let message = format!(
                "clients of {} are not among these, and race in vain; expected {client} as well",
                gateway.place(&format!("gateway.allowed_clients[{i}]"))
            );
            findings.mistake(other.place(key), message);
        }
    }
}

/// The web servers of a replica may win the races of the gateway's services, and can carry on as the
/// gateway's configuration demands.
fn may_win(gateway: &File, file: &File, findings: &mut Findings) {
    let (Some(own), Some(replica)) = (gateway.gateway(), file.replica()) else { return };
    for (i, service) in replica.services.iter().enumerate() {
        let path = format!("replica.service[{i}]");
        let numbers: Vec<_> = service
            .ports
            .iter()
            .filter_map(|port| raced_by(gateway, service.address, *port))
            .collect();
        let Some(&number) = numbers.first() else {
            let message = format!(
                "{} is raced by no service of {}; expected one there, or this gateway never asks",
                shown(service.address, service.ports[0]),
                gateway.place("gateway.service")
            );
            findings.warning(file.place(&format!("{path}.address")), message);
            continue;
        };
        let raced = &own.services[number];
        let raced_path = gateway.gateway_service(number);
        for (n, server) in service.servers.iter().enumerate() {
            let permitted = raced.allowed_replicas.iter().any(|net| net.contains(&server.address));
            if !permitted {
                let message = format!(
                    "{} is not in {}, so its answers win nothing; expected a prefix there that \
                     contains it",
                    server.address,
                    gateway.place(&format!("{raced_path}.allowed_replicas"))
                );
                findings.mistake(file.place(&format!("{path}.server[{n}].address")), message);
            }
            if own.configuration == Configuration::C {
                keeps_port((gateway, file), service, (i, n), findings);
            }
        }
        direct(gateway, (raced, &raced_path), (file, replica), findings);
    }
}

/// A server that has the service's address gets the packets of configuration C unchanged.
fn keeps_port(
    (gateway, file): (&File, &File),
    service: &ReplicaService,
    (i, n): (usize, usize),
    findings: &mut Findings,
) {
    let server = &service.servers[n];
    let Some(port) = server.port.filter(|port| server.has_vip && service.ports != [*port]) else {
        return;
    };
    let message = format!(
        "{port}, but under {} = \"C\" a server with has_vip gets the packets to the port that the \
         client asked for; expected no port, or has_vip = false",
        gateway.place("gateway.configuration")
    );
    findings.mistake(file.place(&format!("replica.service[{i}].server[{n}].port")), message);
}

/// A replica that takes no direct copies is asked in vain.
fn direct(
    gateway: &File,
    (service, path): (&GatewayService, &str),
    (file, replica): (&File, &Replica),
    findings: &mut Findings,
) {
    if service.direct > 0 && !replica.direct {
        let message = format!(
            "false, but {} is {}: the copies are dropped; expected true, or 0 there",
            gateway.place(&format!("{path}.direct")),
            service.direct
        );
        findings.mistake(file.place("replica.direct"), message);
    }
}

/// A replica that rewrites answers remembers connections for as long as the gateway does.
fn lifetimes(gateway: &File, file: &File, findings: &mut Findings) {
    let Some(configuration) = gateway.gateway().map(|own| own.configuration) else { return };
    let (there, here) = (gateway.config.timeouts.established, file.config.timeouts.established);
    if configuration != Configuration::A && here < there {
        let message = format!(
            "{}, shorter than {} = {}: under {} an idle connection that the replica has forgotten \
             hangs; expected at least as long",
            humantime::format_duration(here),
            gateway.place("timeouts.established"),
            humantime::format_duration(there),
            configuration.name()
        );
        findings.mistake(file.place("timeouts.established"), message);
    }
    let reuse = gateway.config.timeouts.reuse_after;
    if configuration != Configuration::C && reuse.as_secs() > LONGEST_REUSE {
        let message = format!(
            "{}, but {} takes a SYN from a port used before for the same client's for {LONGEST_REUSE}s \
             only; expected at most that under {}",
            humantime::format_duration(reuse),
            file.place("replica.service"),
            configuration.name()
        );
        findings.mistake(gateway.place("timeouts.reuse_after"), message);
    }
}

/// Returns whether a switch makes copies for a service.
pub(super) fn makes_copies(service: &SwitchService) -> bool {
    service.content == Content::Static && !service.replicas.is_empty()
}

/// Returns the number of the gateway's service that races connections to an address and port.
pub(super) fn raced_by(file: &File, address: IpAddr, port: u16) -> Option<usize> {
    let services = &file.gateway()?.services;
    services
        .iter()
        .position(|service| service.address.contains(address) && service.ports.contains(&port))
}

/// Returns the number of the gateway's first service that has an address, whatever the port.
fn covering(file: &File, address: IpAddr) -> Option<usize> {
    file.gateway()?.services.iter().position(|service| service.address.contains(address))
}

/// Returns the address of a gateway's service that has only one.
fn single(service: &GatewayService) -> Option<IpAddr> {
    match service.address {
        ServiceAddress::Prefix(net) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
        _ => None,
    }
}

pub(super) fn shown(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Returns whether an address is IPv6.
pub(super) fn is_v6(address: IpAddr) -> bool {
    Version::of(address) == Version::V6
}
