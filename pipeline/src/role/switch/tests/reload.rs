//! What a reload keeps, and what it changes at once.

use super::affinity::{ACK, SYN_ACK, from_client, from_server, port_of, syn_of};
use super::deliver::arp_reply;
use super::probe::{alive, ready, round};
use super::*;
use crate::counters::EarlierNumbers;
use crate::wire::tcp::Flags;

impl Harness {
    /// Reloads with changed settings.
    fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.switch.common.settings.clone();
        change(&mut settings);
        let (mut replicas, mut servers) = (0, 0);
        for service in &mut settings.services {
            (service.first_replica, service.first_server) = (replicas, servers);
            replicas += service.replicas.len();
            servers += service.servers.len();
        }
        let next = Harness::new(Settings { max_connections: [1; 2], ..settings });
        drop(self.switch.reload(next.switch, self.now));
        (self.services, self.selection, self.shares) = (next.services, next.selection, next.shares);
    }

    /// A connection of this client port is opened; returns its server.
    fn open(&mut self, plan: Plan, port: u16) -> Option<usize> {
        let server = self.server_of(&syn_of(plan, port, 7));
        self.pass(Side::Inside, &from_server(plan, port, SYN_ACK));
        assert_eq!(self.server_of(&from_client(plan, port, ACK)), server);
        server
    }
}

fn server(number: usize, weight: u32) -> Server {
    let delivery = Delivery::Direct(server_mac(number));
    Server { name: format!("web{number}"), delivery, weight }
}

#[test]
fn connections_of_an_only_server_stay_there_when_another_joins_it() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        let ports = 1000..1030;
        assert!(ports.clone().all(|port| harness.open(plan, port) == Some(0)));
        assert_eq!(harness.table(plan).0, 0);
        harness.reload(|settings| settings.services[0].servers.push(server(1, 1)));
        for port in ports.clone() {
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(0), "{port}");
            harness.pass(
                Side::Inside,
                &Segment::ack(plan.service, &client(plan, port), 5001, 1002).frame(),
            );
        }
        assert_eq!(harness.table(plan), (30, [0, 30, 0]), "from now on they have entries");
        let new: Vec<_> = (2000..2060).map(|port| harness.open(plan, port)).collect();
        assert!(new.contains(&Some(0)) && new.contains(&Some(1)));
        // Another reload changes nothing of that, nor does time.
        harness.reload(|_| {});
        harness.now = harness.now + Ticks::from_secs(3500);
        assert!(ports.clone().all(|p| harness.server_of(&from_client(plan, p, ACK)) == Some(0)));
        harness.now = harness.now + Ticks::from_secs(3500);
        assert!(ports.clone().all(|p| harness.server_of(&from_client(plan, p, ACK)) == Some(0)));
        // What belongs to no connection then goes where a new one would.
        let port = port_of(&mut harness, plan, 1);
        assert_eq!(harness.server_of(&from_client(plan, port, ACK)), Some(1));
    }
}

#[test]
fn a_server_that_has_left_keeps_its_connections_and_gets_no_new_ones() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 2)));
        let places: Vec<_> = (1000..1040).map(|port| (port, harness.open(plan, port))).collect();
        harness.reload(|settings| {
            settings.services[0].servers[1].weight = 0;
            settings.services[0].servers.push(server(2, 1));
        });
        for &(port, at) in &places {
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), at, "{port}");
        }
        let new: Vec<_> = (2000..2040).map(|port| harness.open(plan, port)).collect();
        assert!(new.contains(&Some(0)) && new.contains(&Some(2)) && !new.contains(&Some(1)));
        // Even if the successor has forgotten it, its number stands for it.
        harness.reload(|settings| settings.services[0].servers.truncate(1));
        for &(port, at) in &places {
            assert_eq!(harness.server_of(&from_client(plan, port, ACK)), at, "{port}");
        }
    }
}

#[test]
fn a_service_that_has_left_keeps_its_connections_and_begins_none() {
    for plan in PLANS {
        for servers in [1, 2] {
            let mut harness = Harness::new(settings(service(plan, plan, servers)));
            let places: Vec<_> =
                (1000..1020).map(|port| (port, harness.open(plan, port))).collect();
            harness.reload(|settings| settings.services[0].retired = true);
            for &(port, at) in &places {
                assert_eq!(harness.server_of(&from_client(plan, port, ACK)), at, "{port}");
            }
            let new = Segment::syn(&client(plan, 2000), plan.service, 7);
            let new = new.options(&tagged_options(1)).inbound().frame();
            assert_eq!(harness.pass(Side::Outside, &new), Verdict::NoService);
            assert_eq!((&harness.inside, harness.outside.len()), (&vec![new], 0), "as it came");
            if servers > 1 {
                // What follows it does, too; a SYN of a connection that it has is repeated.
                let next = from_client(plan, 2000, ACK);
                assert_eq!(harness.pass(Side::Outside, &next), Verdict::NoService);
                assert_eq!(harness.server_of(&syn_of(plan, 1000, 7)), places[0].1);
                // A connection that is over is none, and its endpoint is free.
                let reset = from_client(plan, 1000, Flags::RST);
                harness.pass(Side::Outside, &reset);
                let anew = syn_of(plan, 1000, 99);
                assert_eq!(harness.pass(Side::Outside, &anew), Verdict::NoService);
                let next = from_client(plan, 1000, ACK);
                assert_eq!(harness.pass(Side::Outside, &next), Verdict::NoService);
            }
        }
    }
}

#[test]
fn a_new_service_of_the_same_address_and_port_takes_over_what_the_old_one_has() {
    for plan in PLANS {
        for servers in [1, 2] {
            let mut harness = Harness::new(settings(service(plan, plan, servers)));
            let places: Vec<_> =
                (1000..1020).map(|port| (port, harness.open(plan, port))).collect();
            harness.reload(|settings| {
                settings.services[0].retired = true;
                let mut new = service(plan, plan, servers);
                new.servers.iter_mut().for_each(|server| server.weight = 0);
                new.servers.push(server(2, 1));
                settings.services.push(new);
            });
            for &(port, at) in &places {
                assert_eq!(harness.server_of(&from_client(plan, port, ACK)), at, "{port}");
            }
            assert!((2000..2010).all(|port| harness.open(plan, port) == Some(2)));
        }
    }
}

#[test]
fn a_replica_that_has_left_gets_no_copies_but_the_errors_of_its_connections() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        let tagged = |port: u16, configuration: u8| {
            let syn = Segment::syn(&client(plan, port), plan.service, 1000);
            syn.options(&tagged_options(1 | configuration << 1)).inbound().frame()
        };
        harness.pass(Side::Outside, &tagged(1000, 1));
        assert_eq!(harness.outside.len(), 2);
        // The first one leaves, and the second gets its number.
        harness.reload(|settings| {
            settings.services[0].replicas.remove(0);
            settings.earlier_replicas = EarlierNumbers::new([Some(1)]);
        });
        harness.pass(Side::Outside, &tagged(1001, 1));
        assert_eq!(harness.outside.len(), 1);
        let copies: Vec<_> = harness.switch.counters().copies().iter().map(|c| c.get()).collect();
        assert_eq!(copies, [2], "one before, one since");
        // A router's error about a packet that may be either's.
        let quoted = Segment::ack(plan.service, &client(plan, 1000), 1, 1).packet();
        let (kind, code) = if host(plan.client).contains(':') { (2, 0) } else { (3, 4) };
        let router = if kind == 2 { "2001:db8:ff::1" } else { "192.0.2.1" };
        let to = host(plan.service);
        let error = crate::testing::icmp_error(router, &to, kind, code, &quoted);
        harness.pass(Side::Outside, &error);
        assert_eq!(harness.outside.len(), 2);
        // It comes back.
        harness.reload(|settings| {
            settings.services[0].replicas.push(ip(plan.replicas[0]));
            settings.earlier_replicas = EarlierNumbers::new([Some(0), None]);
        });
        harness.pass(Side::Outside, &error);
        assert_eq!(harness.outside.len(), 2);
        let copies: Vec<_> = harness.switch.counters().copies().iter().map(|c| c.get()).collect();
        assert_eq!(copies, [2, 0]);
    }
}

#[test]
fn what_is_known_of_tunnels_goes_on_under_new_numbers() {
    for plan in PLANS {
        let mut harness = ready(plan, plan);
        (0..4).for_each(|_| round(&mut harness, [true, false]));
        assert_eq!(alive(&harness), [true, false]);
        harness.reload(|_| {});
        assert_eq!(alive(&harness), [true, false]);
        harness.reload(|settings| {
            settings.services[0].replicas.reverse();
            settings.earlier_replicas = EarlierNumbers::new([Some(1), Some(0)]);
        });
        assert_eq!(alive(&harness), [false, true]);
        harness.reload(|settings| settings.earlier_replicas = EarlierNumbers::default());
        // The next hop is known without another SYN, and no answer is missed.
        (0..2).for_each(|_| round(&mut harness, [false, true]));
        assert_eq!(alive(&harness), [false, true]);
        (0..4).for_each(|_| round(&mut harness, [true, true]));
        assert_eq!(alive(&harness), [true, true]);
    }
}

#[test]
fn mac_addresses_and_the_frames_that_wait_for_them_outlast_a_reload() {
    let plan = V4_PLAN;
    let near = |number: usize| {
        let delivery = Delivery::Neighbour(ip(plan.servers[number]));
        Server { name: format!("near{number}"), delivery, weight: 1 }
    };
    let mut one = service(plan, plan, 1);
    one.servers = vec![near(0)];
    let mut harness = Harness::new(settings(one));
    assert_eq!(harness.pass(Side::Outside, &syn_of(plan, 1000, 7)), Verdict::Pending);
    harness.reload(|settings| settings.services[0].servers.push(near(1)));
    harness.on_timer();
    let answer = arp_reply(plan.servers[0], server_mac(0));
    assert_eq!(harness.pass(Side::Inside, &answer), Verdict::NeighbourLearned);
    harness.on_timer();
    assert!(harness.inside.iter().any(|frame| frame[..6] == server_mac(0)), "the SYN");
    harness.reload(|settings| settings.services[0].servers[1].weight = 0);
    assert_eq!(harness.server_of(&from_client(plan, 1000, ACK)), Some(0));
}
