use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn server(name: &str, last: u8) -> Server {
    let place = Place::Neighbour([192, 0, 2, last].into());
    Server { name: name.to_owned(), place, retired: None }
}

fn service(name: &str, address: &str, ports: &[u16], servers: &[u8]) -> Service {
    Service {
        name: name.to_owned(),
        address: address.to_owned(),
        ports: ports.to_vec(),
        servers: servers.iter().map(|last| server(&format!("web{last}"), *last)).collect(),
        ..Service::default()
    }
}

const V: &str = "203.0.113.10";
const W: &str = "203.0.113.20";

fn assigned(numbers: &Numbers, wanted: &[Service]) -> Numbers {
    numbers.assigned(wanted, Entries::Servers).unwrap_or_else(|conflicts| panic!("{conflicts:?}"))
}

/// Returns the services: number, name, ports, and whether it is retired.
fn shown(numbers: &Numbers) -> Vec<(usize, &str, &[u16], bool)> {
    let all = numbers.services().iter().enumerate();
    all.map(|(n, s)| (n, s.name.as_str(), s.ports.as_slice(), s.retired.is_some())).collect()
}

#[test]
fn a_file_read_for_the_first_time_is_numbered_in_its_order() {
    let wanted = [service("a", V, &[80], &[1, 2]), service("b", W, &[80], &[3])];
    let numbers = assigned(&Numbers::default(), &wanted);
    assert_eq!(numbers.services(), wanted);
    assert_eq!(assigned(&numbers, &wanted), numbers, "nothing changes");
    let turned = [wanted[1].clone(), wanted[0].clone()];
    assert_eq!(assigned(&numbers, &turned), numbers, "whatever the order");
}

#[test]
fn a_service_that_leaves_is_retired_and_comes_back_under_its_number() {
    let all = [service("a", V, &[80], &[1]), service("b", W, &[80], &[2])];
    let first = assigned(&Numbers::default(), &all);
    let without = assigned(&first, &all[1..]);
    assert_eq!(shown(&without), [(0, "a", &[80][..], true), (1, "b", &[80][..], false)]);
    assert_eq!(without.number_of("a"), None);
    assert!(without.services()[0].servers[0].retired.is_some());
    let other = assigned(&without, &[all[1].clone(), service("c", "203.0.113.30", &[80], &[3])]);
    assert_eq!(other.number_of("c"), Some(2));
    let back = assigned(&other, &all);
    assert_eq!((back.number_of("a"), back.number_of("b")), (Some(0), Some(1)));
    assert_eq!(back.services()[0].servers[0].retired, None);
}

#[test]
fn another_name_for_the_same_address_and_port_is_a_new_name() {
    let first = assigned(&Numbers::default(), &[service("a", V, &[80, 443], &[1, 2])]);
    let renamed = assigned(&first, &[service("b", V, &[443], &[2])]);
    assert_eq!(shown(&renamed), [(0, "b", &[443][..], false), (1, "a", &[80][..], true)]);
    // The server keeps its number, and both ports their connections.
    for number in [0, 1] {
        let places: Vec<_> = renamed.services()[number].servers.iter().map(|s| s.place).collect();
        assert_eq!(places, [server("", 1).place, server("", 2).place]);
    }
    // The same name at another address is another service.
    let moved = assigned(&first, &[service("a", W, &[80, 443], &[1, 2])]);
    assert_eq!(shown(&moved), [(0, "a", &[80, 443][..], true), (1, "a", &[80, 443][..], false)]);
}

#[test]
fn a_port_goes_to_another_service_only_with_the_numbers_of_its_servers() {
    let first = [service("a", V, &[80, 443], &[1, 2])];
    let numbers = assigned(&Numbers::default(), &first);
    let split = [service("a", V, &[80], &[1, 2]), service("tls", V, &[443], &[3])];
    let numbers = assigned(&numbers, &split);
    let places: Vec<_> = numbers.services()[1].servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(places, ["web1", "web2", "web3"]);
    // Servers that were numbered apart cannot share a port's connections.
    let apart = [service("a", V, &[80], &[1]), service("b", V, &[443], &[2])];
    let numbers = assigned(&Numbers::default(), &apart);
    let joined = [service("a", V, &[80, 443], &[1]), service("b", V, &[444], &[2])];
    let conflicts = numbers.assigned(&joined, Entries::Servers).unwrap_err();
    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
    assert_eq!((&*conflict.service, conflict.port, &*conflict.earlier), ("a", 443, "b"));
    for other in [Entries::Services, Entries::Nothing] {
        assert!(numbers.assigned(&joined, other).is_ok());
    }
}

#[test]
fn what_was_retired_first_is_reused_when_numbers_run_out() {
    let mut numbers = Numbers::default();
    for n in 0..300u16 {
        let [high, low] = n.to_be_bytes();
        let place = Place::Neighbour([192, 0, high, low].into());
        let own = Server { name: format!("web{n}"), place, retired: None };
        let wanted = [Service { servers: vec![own], ..service("a", V, &[80], &[]) }];
        numbers = assigned(&numbers, &wanted);
    }
    let servers = &numbers.services()[0].servers;
    assert_eq!(servers.len(), MOST_SERVERS);
    assert_eq!(
        (&*servers[0].name, &*servers[43].name, &*servers[44].name),
        ("web256", "web299", "web44")
    );
    let mut numbers = Numbers::default();
    for n in 0..MOST_SERVICES + 10 {
        let address = format!("203.0.{}.{}", n / 256, n % 256);
        numbers =
            numbers.assigned(&[service("a", &address, &[80], &[])], Entries::Services).unwrap();
    }
    assert_eq!(numbers.services().len(), MOST_SERVICES);
    assert_eq!(numbers.number_of("a"), Some(9));
}

#[test]
fn numbers_survive_being_written_to_a_file() {
    let web =
        Place::Web { address: [192, 0, 2, 9].into(), port: Some(8080), mac: None, has_vip: true };
    let servers = [Place::Inside, Place::Mac([2; 6]), Place::Tunnel([192, 0, 2, 1].into()), web];
    let servers = servers.map(|place| Server { name: "web".to_owned(), place, retired: None });
    let first = Service { servers: servers.to_vec(), ..service("a", V, &[80], &[]) };
    let numbers = assigned(&assigned(&Numbers::default(), &[first]), &[]);
    let text = serde_json::to_string(&numbers).unwrap();
    assert_eq!(serde_json::from_str::<Numbers>(&text).unwrap(), numbers);
}

/// A file: ports by service, where each address and port is one service's; and servers by service.
fn files() -> impl Strategy<Value = Vec<Service>> {
    let claims = btree_map((0..2usize, 80..84u16), 0..3usize, 0..6);
    let servers = vec(proptest::collection::btree_set(1..6u8, 0..4), 6);
    (claims, servers).prop_map(|(claims, servers)| {
        let mut all = Vec::new();
        for (address, name) in (0..2).flat_map(|address| (0..3).map(move |name| (address, name))) {
            let own = claims.iter().filter(|((at, _), to)| (*at, **to) == (address, name));
            let ports: Vec<_> = own.map(|((_, port), _)| *port).collect();
            if !ports.is_empty() {
                // A name may be at either address, as after a move.
                let shown = format!("s{}", (name + 2 * address) % 5);
                let servers: Vec<_> = servers[address * 3 + name].iter().copied().collect();
                all.push(service(&shown, [V, W][address], &ports, &servers));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        all.retain(|service| names.insert(service.name.clone()));
        all
    })
}

/// A connection, as an entry refers to its service and server.
#[derive(Clone, Debug)]
struct Connection {
    address: String,
    port: u16,
    number: usize,
    server: Option<(usize, Place)>,
}

/// Returns a connection to each server of each service of the file.
fn connections(numbers: &Numbers) -> Vec<Connection> {
    let mut all = Vec::new();
    for (number, service) in numbers.services().iter().enumerate() {
        for &port in service.ports.iter().filter(|_| service.retired.is_none()) {
            let address = service.address.clone();
            let connection = Connection { address, port, number, server: None };
            let live = service.servers.iter().enumerate().filter(|(_, s)| s.retired.is_none());
            let servers = live.map(|(slot, server)| Some((slot, server.place)));
            all.extend(
                servers.chain([None]).map(|server| Connection { server, ..connection.clone() }),
            );
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_number_changes_its_meaning_while_a_connection_refers_to_it(
        files in vec(files(), 1..8),
    ) {
        for entries in [Entries::Services, Entries::Servers, Entries::Nothing] {
            let (mut numbers, mut open) = (Numbers::default(), Vec::new());
            for wanted in &files {
                // A change that cannot be made is refused, and the next one is compared with what is.
                let Ok(next) = numbers.assigned(wanted, entries) else { continue };
                numbers = next;
                open.extend(connections(&numbers));
                for service in wanted {
                    let number = numbers.number_of(&service.name).unwrap();
                    let known = &numbers.services()[number];
                    prop_assert_eq!((&known.address, &known.ports), (&service.address, &service.ports));
                    let live = |server: &&Server| server.retired.is_none();
                    prop_assert_eq!(known.servers.iter().filter(live).count(), service.servers.len());
                }
                for connection in &open {
                    check(&numbers, entries, connection)?;
                }
            }
        }
    }
}

/// Checks that an entry of a connection still means what it meant.
fn check(
    numbers: &Numbers,
    entries: Entries,
    connection: &Connection,
) -> Result<(), TestCaseError> {
    let Connection { address, port, number, server } = connection;
    let services = numbers.services();
    if entries == Entries::Services {
        prop_assert_eq!(&services[*number].address, address);
        return Ok(());
    }
    // Found by the packet's address and port: exactly one service has them.
    let owners = || services.iter().filter(|s| s.address == *address && s.ports.contains(port));
    prop_assert_eq!(owners().count(), 1, "{:?}: {:?}", connection, services);
    if let (Entries::Servers, Some((slot, place))) = (entries, server) {
        let found = owners().next().and_then(|owner| owner.servers.get(*slot));
        prop_assert_eq!(found.map(|server| server.place), Some(*place), "{:?}", services);
    }
    Ok(())
}
