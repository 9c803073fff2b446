//! The gateway of each configuration beside its plain model, over both families: what leaves, by
//! which side, under which name, and what is known of every client after each packet.

mod changes;
mod pair;

use std::cell::Cell;
use std::time::Duration;

use firstack_tests::model::event::{crowd, trace};
use firstack_tests::model::plan::{policy, with_policy};
use firstack_tests::model::{
    ACK, CLIENTS, FIRST_V6, Key, Packet, State, Tally, gateway, peers, run,
};
use pipeline::base::time::Ticks;
use pipeline::counters::Generated;
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::role::gateway::{Settings, Timeouts};
use pipeline::verdict::Verdict;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use changes::{changes, some_clients};
use pair::Pair;

/// What is decided of packets that are nobody's business, in every configuration.
const ANYBODY: &[Verdict] = &[
    Verdict::NonIp,
    Verdict::Ipv6Extensions,
    Verdict::OtherProtocol,
    Verdict::Icmp,
    Verdict::Fragment,
    Verdict::ForeignTunnel,
    Verdict::NoEntry,
    Verdict::NoService,
    Verdict::EthernetTruncated,
    Verdict::IpTruncated,
    Verdict::IpVersion,
    Verdict::IpHeaderLength,
    Verdict::IpTotalLength,
    Verdict::FrameCut,
    Verdict::TcpTruncated,
    Verdict::TcpDataOffset,
];

/// What every configuration's gateway can decide besides in the main property.
const COMMON: &[Verdict] = &[
    Verdict::Tagged,
    Verdict::TaggedRetransmit,
    Verdict::TaggedNewIsn,
    Verdict::UntaggedRetransmit,
    Verdict::UntaggedBackoff,
    Verdict::UntaggedNoOptionSpace,
    Verdict::UntaggedData,
    Verdict::UntaggedFastOpen,
    Verdict::UntaggedMpJoin,
    Verdict::UntaggedAlreadyTagged,
    Verdict::UntaggedTcpAuth,
    Verdict::UntaggedIpChecksum,
    Verdict::UntaggedTcpChecksum,
    Verdict::UntaggedOptions,
    Verdict::UntaggedEndpointInUse,
    Verdict::UntaggedNoHeadroom,
    Verdict::SynToWinner,
    Verdict::ToReplica,
    Verdict::OtherServer,
    Verdict::RaceUndecided,
    Verdict::AnsweredElsewhere,
    Verdict::WithOrigin,
    Verdict::OriginWon,
    Verdict::ReplicaWon,
    Verdict::SynAckRetransmit,
    Verdict::ResetByOrigin,
    Verdict::FromReplica,
    Verdict::FromOther,
    Verdict::UnlistedReplica,
    Verdict::LoserReset,
    Verdict::SynAckWrongNumber,
    Verdict::ResetByReplica,
    Verdict::FromLoser,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FragmentUnknown,
    Verdict::SynAckIpChecksum,
    Verdict::SynAckTcpChecksum,
    Verdict::LeftToOrigin,
    Verdict::UntaggedClientNotAllowed,
    Verdict::SynDeferred,
    Verdict::SynAckHeld,
    Verdict::ShadowReset,
];

/// What is generated because of plans.
const DIRECT: [Generated; 3] =
    [Generated::DirectCopy, Generated::DeferredSyn, Generated::HeldSynAck];

/// What those can decide besides that open tunnels.
const TUNNELS: &[Verdict] = &[
    Verdict::ReplicaNotAllowed,
    Verdict::ConfigurationMismatch,
    Verdict::TunnelChecksum,
    Verdict::TunnelInnerChecksum,
    Verdict::TunnelCongestion,
];

/// What configuration B can decide besides.
const UNDER_B: &[Verdict] = &[Verdict::Passed, Verdict::ConnectionLost];

/// What configuration C can decide besides.
const UNDER_C: &[Verdict] =
    &[Verdict::ConnectionLost, Verdict::TunnelSpoofed, Verdict::TooBig, Verdict::NoBuffer];

/// The clients of a trace: IPv4, with several addresses of a prefix and several prefixes; IPv6; both.
const CLIENT_SETS: [&[usize]; 3] =
    [&[0, 1, 2, 3, 4, FIRST_V6 - 1], &[FIRST_V6, FIRST_V6 + 1, FIRST_V6 + 2], &[0, 1, FIRST_V6]];

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let usual = Timeouts::default();
    // Origins live on long enough for the reuse of their endpoint to be met.
    let long_window = Timeouts { race_window: Ticks::from_secs(120), ..usual };
    prop_oneof![2 => Just(usual), 1 => Just(long_window)]
}

fn key() -> impl Strategy<Value = Option<Key>> {
    prop_oneof![Just(None), any::<(u8, [u8; 16])>().prop_map(Some)]
}

/// Two sets of services: one has a service that takes replicas from anywhere. Without `everybody`,
/// only the first clients of each family race.
fn settings(timeouts: Timeouts, anywhere: bool, everybody: bool) -> Settings {
    let mut settings = gateway(64, timeouts);
    if !everybody {
        settings.allowed_clients = some_clients();
    }
    if !anywhere {
        let net = |text: &str| text.parse().expect("a prefix");
        for service in settings.services.iter_mut().filter(|s| s.allowed_replicas == AllowList::Any)
        {
            let prefixes = vec![net("198.51.100.11/32"), net("2001:db8:30::11/128")];
            service.allowed_replicas = AllowList::only(prefixes);
        }
    }
    settings
}

fn beside_the_model<C: Mode>(cases: u32, reachable: &[&[Verdict]]) {
    let tally = Tally::default();
    let generated = [const { Cell::new(0) }; 3];
    let number = Cell::new(0);
    for clients in CLIENT_SETS {
        let parameters = (timeouts(), any::<bool>(), weighted(0.75), key(), policy());
        let case = (parameters, trace(clients), vec(1usize..=64, 1..6));
        run(cases, &case, |((timeouts, anywhere, everybody, key, policy), steps, sizes)| {
            let settings = with_policy(settings(timeouts, anywhere, everybody), &policy);
            let mut pair = Pair::<C>::new(settings.clone(), key);
            steps.iter().for_each(|step| pair.step(step));
            pair.tidy();
            tally.add(&pair.fed.verdicts);
            let counters = pair.harness.role.counters();
            for (total, what) in generated.iter().zip(DIRECT) {
                total.set(total.get() + counters.generated[what as usize].get());
            }
            let in_bursts = pair.again(settings.clone(), key, &sizes, None);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
            number.set(number.get() + 1);
            if number.get() % 8 == 0 {
                let reloaded = pair.again(settings, key, &[1], Some(sizes[0] % 7));
                assert_eq!(reloaded, pair.fed, "a reload that changes nothing");
            }
        });
    }
    tally.check(&[&[ANYBODY, COMMON], reachable].concat().concat());
    assert!(generated.iter().all(|count| count.get() > 0), "{DIRECT:?} {generated:?}");
}

#[test]
fn under_a_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<A>(800, &[]);
}

#[test]
fn under_b_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<B>(800, &[TUNNELS, UNDER_B]);
}

#[test]
fn under_c_it_does_what_the_model_says_in_bursts_of_any_size() {
    beside_the_model::<C>(800, &[TUNNELS, UNDER_C]);
}

/// Reloads between any two packets: services come and go, and everything else changes that may.
fn reloaded_beside_the_model<C: Mode>(cases: u32) {
    let tally = Tally::default();
    for clients in CLIENT_SETS {
        let reloads = vec((any::<prop::sample::Index>(), changes()), 1..6);
        let parameters = (timeouts(), any::<bool>(), key(), policy());
        let case = (parameters, trace(clients), reloads, vec(1usize..=64, 1..6));
        run(cases, &case, |((timeouts, anywhere, key, policy), steps, reloads, sizes)| {
            let settings = with_policy(settings(timeouts, anywhere, true), &policy);
            let mut pair = Pair::<C>::new(settings.clone(), key);
            for (number, step) in steps.iter().enumerate() {
                for (at, changes) in &reloads {
                    if at.index(steps.len()) == number {
                        pair.reload(changes);
                    }
                }
                pair.step(step);
            }
            pair.tidy();
            tally.add(&pair.fed.verdicts);
            let in_bursts = pair.again(settings, key, &sizes, None);
            assert_eq!(in_bursts, pair.fed, "bursts of {sizes:?}");
        });
    }
    tally.check(&[
        Verdict::NoService,
        Verdict::ReplicaWon,
        Verdict::ToReplica,
        Verdict::FromReplica,
        Verdict::UnlistedReplica,
        Verdict::FragmentTranslated,
        Verdict::IcmpTranslated,
        Verdict::SynDeferred,
        Verdict::SynAckHeld,
    ]);
}

#[test]
fn under_a_reloads_change_what_the_model_says_and_no_connection() {
    reloaded_beside_the_model::<A>(300);
}

#[test]
fn under_c_reloads_change_what_the_model_says_and_no_connection() {
    reloaded_beside_the_model::<C>(300);
}

#[test]
fn a_full_table_gives_up_the_expired_then_the_closing_then_the_oldest_race() {
    fill_tables::<A>();
    fill_tables::<B>();
    fill_tables::<C>();
}

fn fill_tables<C: Mode>() {
    let tally = Tally::default();
    let evicted = Cell::new([0; 2]);
    let clients: Vec<_> = (0..CLIENTS.len()).collect();
    let case = (crowd(&clients), select(vec![1usize, 4, 7]));
    run(700, &case, |(steps, capacity)| {
        let mut pair = Pair::<C>::new(gateway(capacity, Timeouts::default()), None);
        for step in &steps {
            pair.step(step);
        }
        still_translated(&mut pair);
        tally.add(&pair.fed.verdicts);
        let [v4, v6] = evicted.get();
        evicted.set([v4 + pair.model.evicted[0], v6 + pair.model.evicted[1]]);
    });
    tally.check(&[Verdict::UntaggedTableFull, Verdict::Tagged, Verdict::ToReplica]);
    assert!(evicted.take().into_iter().all(|count| count > 0), "nothing was ever evicted");
}

/// Every connection that a replica has won and that has not timed out is translated.
fn still_translated<C: Mode>(pair: &mut Pair<C>) {
    for client in CLIENTS {
        let Some(record) = pair.model.record(client).cloned() else { continue };
        if record.state != State::Replica {
            continue;
        }
        pair.pass(Side::Inside, &Packet::new(client, record.server, ACK));
        assert_eq!(pair.fed.verdicts.last(), Some(&Verdict::ToReplica));
    }
}

/// The host of the first client has another connection to the same server, untranslated.
#[test]
fn fragments_of_an_untranslated_connection_pass_beside_a_translated_one() {
    fn beside<C: Mode>(number: usize) {
        let mut pair = Pair::<C>::won(CLIENTS[number]);
        pair.fragment(CLIENTS[number], true);
        pair.fragment(CLIENTS[number], false);
        assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 2]);
        pair.fragment(CLIENTS[number + 1], true);
        pair.fragment(CLIENTS[number + 1], false);
        assert_eq!(pair.fed.verdicts[4..], [Verdict::Fragment; 2]);
    }
    for number in [0, FIRST_V6] {
        beside::<A>(number);
        beside::<B>(number);
        beside::<C>(number);
    }
}

#[test]
fn an_identification_that_recurs_is_remembered_anew() {
    let mut pair = Pair::<C>::won(CLIENTS[0]);
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(29);
    pair.fragment(CLIENTS[0], true);
    pair.now += Duration::from_secs(2);
    pair.fragment(CLIENTS[0], false);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::FragmentTranslated; 3]);
}

/// RFC 1812, section 4.3.2.8: who floods a gateway with packets that are too big makes it send
/// no flood of errors.
#[test]
fn errors_about_packets_that_are_too_big_are_limited() {
    let client = CLIENTS[FIRST_V6];
    let mut pair = Pair::<C>::won(client);
    let mut packet = Packet::new(client, peers(client)[0], ACK);
    packet.payload = vec![7; 1280];
    for _ in 0..100 {
        pair.pass(Side::Inside, &packet);
    }
    let arrival = pair.arrivals.last().cloned().expect("a hundred");
    let fed = pair.harness.feed(&[arrival]);
    assert_eq!(fed.verdicts, [Verdict::TooBigDropped]);
    assert_eq!(fed.left, [Vec::<Vec<u8>>::new(), Vec::new()]);
    pair.now += Duration::from_millis(10);
    pair.pass(Side::Inside, &packet);
    assert_eq!(pair.fed.verdicts[2..], [Verdict::TooBig; 101]);
}
