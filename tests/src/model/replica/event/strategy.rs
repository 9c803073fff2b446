//! Generators of events: single ones, and scripts that lead deep into a connection.

use std::time::Duration;

use pipeline::packet::view::Side;
use pipeline::stage::tag::Configuration;
use pipeline::wire::tunnel::Format;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Event, Signature, Step, Tag, Way, Who, Wrap};
use crate::model::ISNS;
use crate::model::frames::Foreign;
use crate::model::packet::{ACK, FIN, PSH, RST, SYN};
use crate::model::replica::SERVICES;
use crate::model::tunnel::Udp;

fn wait() -> impl Strategy<Value = Duration> {
    let limits = vec![1u64, 3, 5, 10, 30, 60, 120, 210, 280, 7440];
    let hair = Duration::from_nanos(1);
    prop_oneof![
        24 => Just(Duration::ZERO),
        8 => (1u64..2000).prop_map(Duration::from_millis),
        // Around the time in which a copy is a duplicate.
        1 => (490u64..510).prop_map(Duration::from_millis),
        2 => select(limits.clone()).prop_map(Duration::from_secs),
        1 => select(limits.clone()).prop_map(move |s| Duration::from_secs(s) - hair),
        1 => select(limits).prop_map(move |s| Duration::from_secs(s) + hair),
    ]
}

fn wrap() -> BoxedStrategy<Wrap> {
    let udp = prop_oneof![3 => Just(Udp::Right), 2 => Just(Udp::None), 1 => Just(Udp::Wrong)];
    let class = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let likely = || proptest::bool::weighted(0.93);
    (select(Format::ALL.to_vec()), udp, class, likely(), likely(), likely(), any::<bool>())
        .prop_map(|(format, udp, traffic_class, ip_checksum, from_right, to_right, mixed)| Wrap {
            format,
            udp,
            traffic_class,
            ip_checksum,
            from_right,
            to_right,
            mixed,
        })
        .boxed()
}

fn code() -> impl Strategy<Value = Configuration> {
    select(vec![Configuration::A, Configuration::B, Configuration::C])
}

fn tag() -> BoxedStrategy<Tag> {
    let signature = prop_oneof![2 => Just(Signature::None), 4 => Just(Signature::Right), 1 => Just(Signature::Wrong)];
    let configuration = prop_oneof![9 => code().prop_map(Some), 1 => Just(None)];
    let sound = (proptest::bool::weighted(0.95), configuration, signature).prop_map(
        |(permitted, configuration, signature)| Tag::Sound { permitted, configuration, signature },
    );
    prop_oneof![1 => Just(Tag::None), 1 => Just(Tag::Bad), 20 => sound].boxed()
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![3 => Just(Way::Switch), 1 => Just(Way::ToTunnel), 1 => Just(Way::ToWebServer)]
}

fn copy() -> BoxedStrategy<Event> {
    let flags = prop_oneof![18 => Just(SYN), 1 => Just(ACK), 1 => Just(SYN | ACK)];
    let checksums =
        prop_oneof![18 => Just((true, true)), 1 => Just((false, true)), 1 => Just((true, false))];
    (way(), 0usize..3, tag(), flags, proptest::bool::weighted(0.05), checksums)
        .prop_map(|(way, isn, tag, flags, data, checksums)| Event::Copy {
            way,
            isn,
            tag,
            flags,
            data,
            checksums,
        })
        .boxed()
}

fn who() -> impl Strategy<Value = Who> {
    let others = select(vec![Who::WebServer, Who::Service, Who::Stranger]);
    prop_oneof![9 => Just(Who::Right), 2 => others]
}

fn flags() -> impl Strategy<Value = u8> {
    select(vec![ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN])
}

fn event() -> BoxedStrategy<Event> {
    let side = || select(vec![Side::Inside, Side::Outside]);
    let answers = prop_oneof![3 => Just(SYN | ACK), 4 => flags()];
    let fill = (select(vec![-1i8, 0, 1, 90]), any::<bool>());
    let fill = prop_oneof![6 => Just(None), 1 => fill.prop_map(Some)];
    let web = (who(), answers, fill).prop_map(|(who, flags, fill)| Event::Web(who, flags, fill));
    let gateway = (any::<bool>(), who(), flags())
        .prop_map(|(tunnelled, who, flags)| Event::Gateway(tunnelled, who, flags));
    let kinds = vec![[3u8, 2], [3, 2], [11, 3], [0, 129]];
    let bytes = prop_oneof![0usize..17, 18usize..=20];
    let error = (side(), any::<bool>(), select(kinds), bytes, any::<bool>()).prop_map(
        |(side, tunnelled, kind, bytes, near)| Event::Error(side, tunnelled, kind, bytes, near),
    );
    let fragment = (side(), any::<bool>(), 0u16..3, any::<bool>())
        .prop_map(|(side, tunnelled, id, first)| Event::Fragment(side, tunnelled, id, first));
    let foreign = (side(), Foreign::passing()).prop_map(|(side, what)| Event::Foreign(side, what));
    let gates = (proptest::bool::weighted(0.2), proptest::bool::weighted(0.2))
        .prop_map(|(dead, busy)| Event::Admission(dead, busy));
    prop_oneof![
        10 => copy(),
        3 => any::<u8>().prop_map(Event::OfSwitch),
        10 => web,
        8 => gateway,
        5 => error,
        5 => fragment,
        1 => foreign,
        1 => Just(Event::Learn),
        1 => gates,
        1 => Just(Event::Housekeeping),
    ]
    .boxed()
}

/// A SYN that comes by two ways, and what the web server says in between or behind.
fn twice() -> BoxedStrategy<Vec<Event>> {
    let answer = select(vec![SYN | ACK, RST | ACK]);
    (copy(), way(), answer, any::<bool>())
        .prop_map(|(first, other, answer, between)| {
            let mut second = first.clone();
            if let Event::Copy { way, .. } = &mut second {
                *way = other;
            }
            let answer = Event::Web(Who::Right, answer, None);
            match between {
                true => vec![first, answer, second],
                false => vec![first, second, answer.clone(), answer],
            }
        })
        .boxed()
}

/// Scripts: a copy, the response, the client's ACK; a copy by two ways; and fragments.
fn script() -> BoxedStrategy<Vec<Event>> {
    let opening = (copy(), any::<bool>(), any::<bool>()).prop_map(|(copy, tunnelled, goes_on)| {
        let mut events = vec![copy, Event::Web(Who::Right, SYN | ACK, None)];
        events.extend(goes_on.then_some(Event::Gateway(tunnelled, Who::Right, ACK)));
        events
    });
    let side = select(vec![Side::Inside, Side::Outside]);
    let fragments = (side, 0u16..3).prop_map(|(side, id)| {
        [(id, true), (id, false), ((id + 1) % 3, false)]
            .map(|(id, first)| Event::Fragment(side, true, id, first))
            .to_vec()
    });
    // A retransmitted copy is refused twice.
    let refused = copy().prop_map(|copy| {
        let refusal = Event::Web(Who::Right, RST | ACK, None);
        vec![copy, refusal.clone(), refusal]
    });
    // A client that gets no answer, for longer than any does.
    let repeated = copy().prop_map(|copy| {
        let again = (0..9).flat_map(|_| [Event::Rest, copy.clone()]);
        std::iter::once(copy.clone()).chain(again).collect()
    });
    prop_oneof![3 => opening, 1 => refused, 2 => twice(), 1 => fragments, 1 => repeated].boxed()
}

/// Generates a trace of events among these clients, given by index.
pub fn trace(clients: &[usize]) -> BoxedStrategy<Vec<Step>> {
    let events = prop_oneof![5 => event().prop_map(|event| vec![event]), 1 => script()];
    let class = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let vlans = prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![(0x8100u16, 5u16)])];
    let dress = (wrap(), class, vlans);
    let numbers = (0..ISNS.len(), proptest::bool::weighted(0.8));
    let step = (wait(), select(clients.to_vec()), 0..SERVICES, events, dress, numbers).prop_map(
        |(wait, client, service, events, dress, (sequence, acknowledges))| {
            let (wrap, traffic_class, vlans) = dress;
            let step = |(number, event): (usize, Event)| Step {
                wait: match &event {
                    _ if number == 0 => wait,
                    Event::Rest => Duration::from_millis(600),
                    _ => Duration::from_millis(20),
                },
                client,
                service,
                event,
                wrap,
                traffic_class,
                vlans: vlans.clone(),
                sequence,
                acknowledges,
            };
            events.into_iter().enumerate().map(step).collect::<Vec<_>>()
        },
    );
    vec(step, 1..100).prop_map(|steps| steps.concat()).boxed()
}
