//! Generators of events: single ones, and short scripts that lead deep into a connection.

use std::time::Duration;

use pipeline::packet::view::Side;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use pipeline::wire::tunnel::Format;

use super::{
    Acknowledged, Dress, Event, Form, IcmpReport, Isn, Segment, Shape, Step, Twist, Who, Wrap,
};
use crate::model::frames::{Foreign, options};
use crate::model::packet::{ACK, FIN, PSH, RST, SYN};
use crate::model::plan::drawn;
use crate::model::tunnel::Udp;
use crate::model::{ISNS, PEERS};

/// MSS, SACK permitted, timestamps, window scale.
const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

/// Identifications of fragmented packets.
const IDS: u16 = 4;

fn dress() -> impl Strategy<Value = Dress> {
    let vlan = (select(vec![0x8100, 0x88a8, 0x9100]), any::<u16>());
    let unusual =
        (vec(vlan, 0..3), any::<u8>(), any::<u16>(), any::<u8>(), 0usize..3, 0u8..4, 0usize..9)
            .prop_map(|(vlans, traffic_class, id, ttl, ip_options, ecn, padding)| Dress {
                vlans,
                traffic_class,
                id,
                ttl,
                ip_options,
                ecn_flags: ecn << 6,
                padding,
            });
    prop_oneof![2 => Just(Dress::default()), 1 => unusual]
}

/// Mostly the tunnels of the configuration, in any format; sometimes any other.
fn wrap() -> impl Strategy<Value = Wrap> {
    let form = prop_oneof![
        8 => Just(Form::Usual),
        1 => Just(Form::Plain),
        2 => Just(Form::AsB),
        2 => Just(Form::AsC),
    ];
    let format = select(Format::ALL.to_vec());
    let udp = prop_oneof![3 => Just(Udp::Right), 2 => Just(Udp::None), 1 => Just(Udp::Wrong)];
    let class = prop_oneof![2 => Just(0u8), 1 => any::<u8>()];
    let twist = prop_oneof![
        12 => Just(Twist::None),
        2 => (0..PEERS.len()).prop_map(Twist::OuterSource),
        1 => Just(Twist::OuterDestination),
        1 => Just(Twist::InnerPort),
        1 => Just(Twist::IpChecksum),
        1 => Just(Twist::Family),
        1 => Just(Twist::Nested),
    ];
    let any =
        (form, format, udp, class, twist).prop_map(|(form, format, udp, traffic_class, twist)| {
            Wrap { form, format, udp, traffic_class, twist }
        });
    prop_oneof![1 => Just(Wrap::USUAL), 2 => any]
}

/// Short waits, and waits that end at a time-out, just before it and just after it.
fn wait() -> impl Strategy<Value = Duration> {
    let limits = vec![1u64, 3, 5, 30, 40, 60, 120, 600, 7440];
    let hair = Duration::from_nanos(1);
    prop_oneof![
        24 => Just(Duration::ZERO),
        8 => (1u64..2000).prop_map(Duration::from_millis),
        2 => (1u64..70).prop_map(Duration::from_secs),
        2 => select(limits.clone()).prop_map(Duration::from_secs),
        1 => select(limits.clone()).prop_map(move |s| Duration::from_secs(s) - hair),
        1 => select(limits).prop_map(move |s| Duration::from_secs(s) + hair),
        1 => (1u64..10_000).prop_map(Duration::from_secs),
    ]
}

fn checksums() -> impl Strategy<Value = (bool, bool)> {
    prop_oneof![12 => Just((true, true)), 1 => Just((false, true)), 1 => Just((true, false))]
}

fn usual() -> Shape {
    Shape { options: LINUX.to_vec(), payload: Vec::new(), checksums: (true, true), headroom: true }
}

fn shape() -> impl Strategy<Value = Shape> {
    let with_options = options().prop_map(|options| Shape { options, ..usual() });
    let with_data = vec(any::<u8>(), 1..40).prop_map(|payload| Shape { payload, ..usual() });
    let corrupt = checksums().prop_map(|checksums| Shape { checksums, ..usual() });
    prop_oneof![
        14 => Just(usual()),
        6 => with_options,
        1 => with_data,
        2 => corrupt,
        1 => Just(Shape { headroom: false, ..usual() }),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        4 => Just(Who::Server),
        4 => Just(Who::Winner),
        1 => Just(Who::Second),
        3 => (0..PEERS.len()).prop_map(Who::Peer),
    ]
}

fn isn() -> impl Strategy<Value = Isn> {
    prop_oneof![2 => Just(Isn::Same), 1 => (0..ISNS.len()).prop_map(Isn::Nth)]
}

/// Any flags, mostly valid combinations.
fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => Just(ACK),
        4 => Just(PSH | ACK),
        4 => Just(FIN | ACK),
        2 => Just(RST),
        2 => Just(RST | ACK),
        1 => any::<u8>().prop_map(|flags| flags & 0x3f),
        1 => Just(SYN | FIN),
    ]
}

/// The distance of a sequence number from the expected one, within the window that decides whether
/// an end counts, at its edges, and outside it.
fn near() -> impl Strategy<Value = Option<i32>> {
    const WINDOW: i32 = 1 << 20;
    let edges = vec![-WINDOW - 1, -WINDOW, -1, 1, WINDOW - 1, WINDOW];
    prop_oneof![
        6 => Just(Some(0)),
        2 => select(edges).prop_map(Some),
        1 => Just(None),
    ]
}

/// Any event and its peer.
type Happening = (usize, Who, Event);

fn event() -> impl Strategy<Value = Event> {
    let side = || select(vec![Side::Inside, Side::Outside]);
    let start = (isn(), shape()).prop_map(|(isn, shape)| Event::Start(isn, shape));
    let addend = prop_oneof![8 => Just(0), 1 => Just(u32::MAX), 1 => Just(1), 1 => any::<u32>()];
    let acknowledged = select(vec![Acknowledged::Raced, Acknowledged::Winner]);
    let acknowledgement =
        (acknowledged, addend, checksums()).prop_map(|(acknowledged, addend, checksums)| {
            Event::Acknowledgement(acknowledged, addend, checksums)
        });
    let payload = vec(any::<u8>(), 0..20);
    let fill = (select(vec![-1i8, 0, 1, 9, 100]), any::<bool>());
    let fill = prop_oneof![9 => Just(None), 1 => fill.prop_map(Some)];
    let refuses = proptest::bool::weighted(0.1);
    let segment = (flags(), payload, proptest::bool::weighted(0.1), fill, refuses, near())
        .prop_map(|(flags, payload, split, fill, refuses, near)| Segment {
            flags,
            payload,
            split,
            fill,
            refuses,
            near,
        });
    let segment = (side(), segment).prop_map(|(side, segment)| Event::Segment(side, segment));
    // A truncated checksum has no expected value.
    let bytes = prop_oneof![0usize..17, 18usize..=20];
    let kinds = vec![[3, 2], [3, 1], [4, 3], [5, 4], [11, 2], [12, 1], [0, 128], [8, 135]];
    let code = select(vec![4u8, 4, 0]);
    let report = (select(kinds), code, bytes, any::<bool>())
        .prop_map(|(kind, code, bytes, end_to_end)| IcmpReport { kind, code, bytes, end_to_end });
    let error = (side(), report).prop_map(|(side, report)| Event::Error(side, report));
    let fragment = (side(), 0..IDS, any::<bool>())
        .prop_map(|(side, id, first)| Event::Fragment(side, id, first));
    let foreign = (side(), Foreign::any()).prop_map(|(side, what)| Event::Foreign(side, what));
    prop_oneof![
        8 => start,
        8 => acknowledgement,
        8 => segment,
        2 => error,
        3 => fragment,
        2 => foreign,
        2 => Just(Event::Housekeeping),
        1 => drawn().prop_map(Event::Plan),
    ]
}

/// A refusal, damaged or not.
fn refusal(client: usize, from: Who, split: bool) -> Happening {
    let segment = Segment { flags: RST | ACK, refuses: true, split, ..Segment::default() };
    (client, from, Event::Segment(Side::Outside, segment))
}

fn start(client: usize, to: Who, isn: Isn) -> Happening {
    (client, to, Event::Start(isn, usual()))
}

fn acknowledgement(client: usize, from: Who) -> Happening {
    (client, from, Event::Acknowledgement(Acknowledged::Winner, 0, (true, true)))
}

fn segment(side: Side, client: usize, flags: u8) -> Happening {
    let peer = if side == Side::Inside { Who::Server } else { Who::Winner };
    (client, peer, Event::Segment(side, Segment { flags, near: Some(0), ..Segment::default() }))
}

/// Scripts: plans and a race that two peers answer, a race that a given peer wins, one without an answer, three of those, one that is
/// refused, the end of a connection, consecutive connections, one that the winner accepts again,
/// and the fragments of a packet.
fn script(clients: &[usize]) -> impl Strategy<Value = Vec<Happening>> + use<> {
    let client = || select(clients.to_vec());
    let race = (client(), who(), isn(), who(), any::<bool>()).prop_map(
        |(client, to, isn, winner, refused)| {
            let mut race = vec![start(client, to, isn), acknowledgement(client, winner)];
            race.extend(refused.then(|| refusal(client, Who::Server, false)));
            race
        },
    );
    let planned = (drawn(), client(), 0..ISNS.len(), who(), who()).prop_map(
        |(plan, client, isn, first, second)| {
            vec![
                (client, Who::Server, Event::Plan(plan)),
                start(client, Who::Server, Isn::Nth(isn)),
                acknowledgement(client, first),
                acknowledgement(client, second),
                (client, Who::Server, Event::Housekeeping),
            ]
        },
    );
    let unanswered = (client(), 0..PEERS.len(), 0..ISNS.len())
        .prop_map(|(client, to, isn)| vec![start(client, Who::Peer(to), Isn::Nth(isn)); 3]);
    let tag_backoffs = (client(), 0..PEERS.len()).prop_map(|(client, to)| {
        let race = |isn| vec![start(client, Who::Peer(to), Isn::Nth(isn)); 3];
        let mut races: Vec<_> = (0..ISNS.len()).flat_map(race).collect();
        races.push(start(client, Who::Peer(to), Isn::Nth(0)));
        races
    });
    let end = client().prop_map(|client| {
        vec![segment(Side::Outside, client, FIN | ACK), segment(Side::Inside, client, FIN | ACK)]
    });
    let reuse = (client(), who(), 0..ISNS.len()).prop_map(|(client, to, isn)| {
        vec![segment(Side::Inside, client, RST), start(client, to, Isn::Nth(isn))]
    });
    let again = (client(), 0..ISNS.len()).prop_map(|(client, isn)| {
        vec![start(client, Who::Server, Isn::Nth(isn)), acknowledgement(client, Who::Winner)]
    });
    let refused = (client(), who(), isn(), who(), any::<bool>()).prop_map(
        |(client, to, isn, refuser, split)| {
            vec![
                start(client, to, isn),
                refusal(client, refuser, split),
                refusal(client, Who::Server, split),
            ]
        },
    );
    let side = select(vec![Side::Inside, Side::Outside]);
    let fragments = (client(), who(), side, 0..IDS).prop_map(|(client, peer, side, id)| {
        let of = |id, first| (client, peer, Event::Fragment(side, id, first));
        vec![of(id, true), of(id, false), of((id + 1) % IDS, false)]
    });
    prop_oneof![
        4 => planned,
        4 => race,
        2 => unanswered,
        1 => tag_backoffs,
        1 => refused,
        1 => end,
        1 => reuse,
        1 => again,
        2 => fragments,
    ]
}

fn steps(parts: impl Strategy<Value = Vec<Happening>>) -> impl Strategy<Value = Vec<Step>> {
    (wait(), dress(), wrap(), parts).prop_map(|(wait, dress, wrap, parts)| {
        let step = |(number, (client, peer, event))| Step {
            wait: if number == 0 { wait } else { Duration::from_millis(40) },
            client,
            peer,
            event,
            wrap,
            dress: dress.clone(),
        };
        parts.into_iter().enumerate().map(step).collect()
    })
}

/// Generates a trace of events among these clients, given by index.
pub fn trace(clients: &[usize]) -> BoxedStrategy<Vec<Step>> {
    let client = select(clients.to_vec());
    let single = steps((client, who(), event()).prop_map(|happening| vec![happening]));
    let several = steps(script(clients));
    vec(prop_oneof![6 => single, 1 => several], 1..120).prop_map(|parts| parts.concat()).boxed()
}

/// Generates a trace of many clients that open, win and end connections, which fills a small table.
pub fn crowd(clients: &[usize]) -> BoxedStrategy<Vec<Step>> {
    let client = || select(clients.to_vec());
    let opening = (client(), 0..ISNS.len())
        .prop_map(|(client, isn)| vec![start(client, Who::Server, Isn::Nth(isn))]);
    let winner = select(vec![Who::Peer(4), Who::Peer(5), Who::Server]);
    let won = (client(), winner).prop_map(|(client, from)| vec![acknowledgement(client, from)]);
    let flags = select(vec![ACK, RST, FIN | ACK]);
    let side = select(vec![Side::Inside, Side::Outside]);
    let later = (side, client(), flags)
        .prop_map(|(side, client, flags)| vec![segment(side, client, flags)]);
    let tidy = Just(vec![(clients[0], Who::Server, Event::Housekeeping)]);
    let part = prop_oneof![10 => opening, 4 => won, 4 => later, 1 => tidy];
    vec(steps(part), 1..200).prop_map(|parts| parts.concat()).boxed()
}
