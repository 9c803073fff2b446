//! Direct copies: whom a race asks, and what is sent and reported.

use super::rig::{Configuration, ISN, Rig, V4_HOSTS, V6_HOSTS, copies_wanted, direct, host, ms};
use super::*;
use crate::memory::{Event, Why};
use crate::packet::burst::BURST;
use crate::stage::sign::Verification;
use crate::stage::tag::{self, Found, OptionId};
use crate::wire::copies::CopiesWanted;
use crate::wire::tunnel::Format;

const EXPLORER: Option<CopiesWanted> = Some(CopiesWanted::at_most(1));
const ALL: Option<CopiesWanted> = Some(CopiesWanted::ALL);

/// Returns the frame without its tag.
fn stripped(frame: &[u8]) -> Vec<u8> {
    let mut packet = Packet::new(HeapBuffer::new(frame));
    let Found::Tag(_, at, length) = OptionId::default().find(packet.options()) else {
        panic!("no tag")
    };
    match packet.view.version {
        Version::V4 => tag::strip::<V4, _>(&mut packet, at, length),
        Version::V6 => tag::strip::<V6, _>(&mut packet, at, length),
    }
    packet.buffer.frame().to_vec()
}

fn in_every_form<M: Mode>() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        for format in Format::ALL {
            let mut rig = Rig::<M>::new(hosts, direct());
            rig.format = format;
            rig.plan(&[(1, 10), (0, 20)], |_| {});
            let (verdict, sent) = rig.send_syn(ISN);
            let [first, second, tagged] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!(verdict, Verdict::Tagged);
            assert_eq!(copies_wanted(tagged), EXPLORER);
            assert_eq!(first, &rig.copy(tagged, 1, format));
            assert_eq!(second, &rig.copy(tagged, 0, format));
            if M::CONFIGURATION != Configuration::C {
                assert_eq!(stripped(tagged), rig.syn(ISN).frame());
            }
            // The first answer wins, and the report names its sender.
            rig.wait(10);
            assert_eq!(rig.receive_answer(1).0, Verdict::ReplicaWon);
            rig.wait(10);
            assert_eq!(rig.receive_answer(0).0, Verdict::LoserReset);
            rig.wait(50);
            assert_eq!(rig.receive_origins().0, Verdict::LoserReset);
            let expected = [
                (host(hosts.replicas[1]), true, true, Some(10)),
                (host(hosts.replicas[0]), true, false, Some(20)),
                (host(hosts.server), true, false, Some(70)),
            ];
            assert_eq!(rig.answers(), expected);
            assert_eq!(rig.data(), Verdict::ToReplica);
        }
    }
}

#[test]
fn a_copy_is_the_tagged_syn_in_a_tunnel_from_the_client_to_the_replica() {
    in_every_form::<A>();
    in_every_form::<B>();
    in_every_form::<C>();
}

#[test]
fn a_replica_can_verify_the_signature_of_a_direct_copy() {
    let keys = || Keys::new([(3, [7; 16])], Some(3));
    for explore in [0, 1, 14] {
        let policy = Policy { explore, ..direct() };
        let mut rig = Rig::<A>::with_settings(&V4_HOSTS, policy, keys(), |_| {});
        rig.plan(&[(0, 10)], |_| {});
        let (_, sent) = rig.send_syn(ISN);
        assert_eq!(sent[0], rig.copy(&sent[1], 0, Format::Ipip));
        let macs = rig.syn(ISN).macs;
        let inner = Packet::new(HeapBuffer::new(&ethernet_frame(macs, &sent[0][34..])));
        let Found::Tag(tag, ..) = OptionId::default().find(inner.options()) else { panic!() };
        assert_eq!(tag.copies, CopiesWanted::at_most(explore));
        let verified = keys().at(rig.now).verify::<V4, _>(&inner, &tag);
        assert!(matches!(verified, Verification::Valid(_)));
    }
}

#[test]
fn without_a_plan_it_is_the_race_of_the_patent() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len(), copies_wanted(&sent[0])), (Verdict::Tagged, 1, ALL));
    rig.wait(40);
    rig.receive_answer(2);
    let answered = (host(V4_HOSTS.replicas[2]), false, true, Some(40));
    assert_eq!(rig.answers(), [answered]);
}

#[test]
fn a_service_without_direct_copies_reports_nothing() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy::default());
    rig.send_syn(ISN);
    rig.receive_answer(2);
    assert_eq!(rig.reported(), []);
}

#[test]
fn one_race_in_so_many_explores_and_one_after_ten_quiet_seconds() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10)], |plan| plan.explore_every = 64);
    let asked: Vec<_> = (1..=200).map(|n| copies_wanted(&rig.other_race(n + 1).1[1])).collect();
    let explored: Vec<_> = (1..=200).filter(|n| asked[n - 1] == ALL).collect();
    assert_eq!(explored, [64, 128, 192]);
    assert!(asked.iter().all(|asked| [ALL, EXPLORER].contains(asked)));
    rig.reported();
    rig.wait(9_999);
    assert_eq!(copies_wanted(&rig.other_race(300).1[1]), EXPLORER);
    rig.wait(1);
    assert_eq!(copies_wanted(&rig.other_race(301).1[1]), ALL);
    assert_eq!(copies_wanted(&rig.other_race(302).1[1]), EXPLORER);
    let why: Vec<_> = rig.reported().into_iter().map(|report| report.event).collect();
    let asked = |copies, why| Event::Asked { sites: 1, copies, why };
    let fresh = asked(CopiesWanted::at_most(1), Why::Fresh);
    assert_eq!(why, [fresh, asked(CopiesWanted::ALL, Why::Exploration), fresh]);
}

#[test]
fn a_trial_takes_the_last_place_in_one_race_of_sixteen_and_never_the_best() {
    for best in [&[(0, 10), (1, 20)][..], &[(0, 10)]] {
        let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
        let maker = Rig::<A>::new(&V4_HOSTS, direct());
        rig.plan(best, |plan| plan.trial = Some(maker.push(plan, 2, None)));
        let mut tried = Vec::new();
        for number in 1..64u16 {
            let (_, sent) = rig.other_race(1 + number);
            let (tagged, copies) = sent.split_last().unwrap();
            assert_eq!(copies[0][30..34], [198, 51, 100, 10], "the best is always asked");
            if copies.last().unwrap()[32] == 102 {
                assert_eq!(copies.len(), 2);
                tried.push(number);
            }
            assert_eq!(copies_wanted(tagged), EXPLORER);
        }
        assert_eq!(tried, [8, 24, 40, 56]);
    }
}

#[test]
fn every_repetition_asks_all_and_is_not_measured() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10), (1, 20)], |_| {});
    rig.send_syn(ISN);
    rig.wait(1000);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::TaggedRetransmit, 3));
    assert_eq!(copies_wanted(&sent[2]), ALL);
    assert_eq!(sent[0], rig.copy(&sent[2], 0, Format::Ipip));
    // Later ones are sent untagged, and the copies tagged.
    rig.wait(2000);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::UntaggedRetransmit, 3));
    assert_eq!(sent[2], rig.syn(ISN).frame());
    let inner = ethernet_frame(rig.syn(ISN).macs, &sent[1][34..]);
    assert_eq!(copies_wanted(&inner), ALL);
    assert_eq!(stripped(&inner), sent[2]);
    let why = rig.reported().into_iter().map(|report| match report.event {
        Event::Asked { copies, why, .. } => (copies, why),
        answered => panic!("{answered:?}"),
    });
    let expected = [
        (CopiesWanted::at_most(1), Why::Fresh),
        (CopiesWanted::ALL, Why::Repetition),
        (CopiesWanted::NONE, Why::Repetition),
    ];
    assert_eq!(why.collect::<Vec<_>>(), expected);
    rig.receive_answer(1);
    // RFC 6298, section 3: which of the SYNs was answered is not known.
    assert_eq!(rig.answers(), [(host(V4_HOSTS.replicas[1]), true, true, None)]);
}

/// Makes the gateway assume that the path to the server drops tagged SYNs.
fn back_off<M: Mode>(rig: &mut Rig<M>) {
    for _ in 0..3 {
        for _ in 0..3 {
            rig.other_race(2);
            rig.wait(1000);
        }
        rig.wait(50_000);
    }
    rig.reported();
}

#[test]
fn while_the_path_drops_tags_only_the_copies_have_one() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    back_off(&mut rig);
    assert_eq!(rig.send_syn(ISN).0, Verdict::UntaggedBackoff);
    assert_eq!(rig.receive_answer(0).0, Verdict::NoEntry, "no race without replicas to ask");
    rig.plan(&[(0, 10)], |_| {});
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::UntaggedBackoff, 2));
    assert_eq!(sent[1], rig.syn(ISN).frame());
    let inner = ethernet_frame(rig.syn(ISN).macs, &sent[0][34..]);
    assert_eq!(stripped(&inner), rig.syn(ISN).frame());
    let asked = Event::Asked { sites: 1, copies: CopiesWanted::NONE, why: Why::Untagged };
    assert_eq!(rig.reported()[0].event, asked);
    // The direct answer and the origin's say nothing of the path.
    assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    assert_eq!(rig.receive_origins().0, Verdict::LoserReset);
    assert_eq!(rig.other_race(3).0, Verdict::UntaggedBackoff);
}

#[test]
fn under_c_an_untagged_syn_to_the_origin_has_the_mss_of_the_tunnels() {
    let mut rig = Rig::<C>::new(&V4_HOSTS, direct());
    back_off(&mut rig);
    rig.plan(&[(0, 10)], |_| {});
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::UntaggedBackoff, 2));
    assert_eq!(copies_wanted(&sent[1]), None);
    let mut expected = rig.syn(ISN);
    expected.options[2..4].copy_from_slice(&1440u16.to_be_bytes());
    assert_eq!(sent[1], expected.frame());
}

#[test]
fn an_answer_of_the_origin_that_lost_shows_that_the_path_takes_tags() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10)], |_| {});
    let missed = |rig: &mut Rig<A>| {
        (0..3).for_each(|_| {
            rig.other_race(2);
            rig.wait(1000);
        });
        rig.wait(50_000);
    };
    missed(&mut rig);
    missed(&mut rig);
    rig.send_syn(ISN);
    rig.receive_answer(0);
    assert_eq!(rig.receive_origins().0, Verdict::LoserReset);
    missed(&mut rig);
    assert_eq!(rig.other_race(3).0, Verdict::Tagged);
}

#[test]
fn copies_that_cannot_be_made_are_counted_and_not_reported() {
    let policy = Policy { origin_after: ms(5), ..direct() };
    let mut rig = Rig::<A>::new(&V4_HOSTS, policy);
    rig.plan(&[(0, 10), (1, 20)], |_| {});
    rig.pool = HeapPool::with_limit(1);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::SynDeferred, 1));
    // Nobody was asked directly, so the origin is at once.
    let (verdict, sent) = rig.other_race(2);
    assert_eq!((verdict, sent.len()), (Verdict::Tagged, 1));
    assert_eq!(rig.scalar(Scalar::CopiesFailed), 3);
    let sites = rig.reported().into_iter().map(|report| match report.event {
        Event::Asked { sites, .. } => sites,
        answered => panic!("{answered:?}"),
    });
    assert_eq!(sites.collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn copies_leave_room_in_the_output_for_the_packets_of_the_burst() {
    for copies in [1, 10] {
        let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
        rig.plan(&[(0, 10)], |plan| {
            // Eight sites, all asked.
            let mut candidate = *plan.candidate(0).unwrap();
            for n in 1..8 {
                candidate.address = [198, 51, 110 + n, 1].into();
                let number = plan.push(u128::from(n), candidate).unwrap();
                plan.best.push(number);
            }
        });
        rig.copies = copies;
        let syns: Vec<_> = (0..BURST as u16)
            .map(|n| {
                let mut syn = rig.syn(ISN);
                syn.from.set_port(1000 + n);
                syn.frame()
            })
            .collect();
        let seen = rig.burst(Side::Inside, &syns);
        assert_eq!(seen.verdicts, [Verdict::Tagged; BURST]);
        let made = seen.outside.len() - BURST;
        assert_eq!(made + rig.scalar(Scalar::CopiesFailed) as usize, 8 * BURST);
        assert_eq!(made == 8 * BURST, copies == 10);
    }
}

#[test]
fn a_service_whose_origin_is_nearest_is_raced_for_explorations_alone() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 80)], |plan| {
        plan.origin_is_nearest = true;
        plan.explore_every = 64;
    });
    let syn = rig.syn(ISN).frame();
    assert_eq!(rig.send_syn(ISN), (Verdict::LeftToOrigin, vec![syn]));
    assert_eq!(rig.receive_origins().0, Verdict::NoEntry);
    assert_eq!(rig.reported(), []);
    let verdicts: Vec<_> = (2..=64).map(|n| rig.other_race(n).0).collect();
    assert_eq!(verdicts.iter().filter(|v| **v == Verdict::LeftToOrigin).count(), 62);
    assert_eq!(verdicts[62], Verdict::Tagged);
    rig.wait(10_000);
    assert_eq!(rig.other_race(99).0, Verdict::Tagged);
}

#[test]
fn an_answer_of_another_web_server_is_its_sites() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10)], |_| {});
    rig.send_syn(ISN);
    rig.wait(10);
    assert_eq!(rig.receive_answer(3).0, Verdict::ReplicaWon);
    rig.wait(10);
    // Asked by the switch alone.
    assert_eq!(rig.receive_answer(1).0, Verdict::LoserReset);
    let expected = [
        (host(V4_HOSTS.replicas[3]), true, true, Some(10)),
        (host(V4_HOSTS.replicas[1]), false, false, Some(20)),
    ];
    assert_eq!(rig.answers(), expected);
}

#[test]
fn a_race_outlives_its_plan() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy { handicaps: any(ms(5)), ..direct() });
    rig.plan(&[(0, 10), (1, 20)], |_| {});
    rig.send_syn(ISN);
    rig.plan(&[], |_| {});
    rig.wait(10);
    assert_eq!(rig.receive_answer(0).0, Verdict::SynAckHeld);
    rig.wait(5);
    assert_eq!(rig.timer().inside.len(), 1);
    assert_eq!(rig.answers(), [(host(V4_HOSTS.replicas[0]), false, true, Some(10))]);
    assert_eq!(rig.data(), Verdict::ToReplica);
}

/// A handicap for all replicas.
pub(super) fn any(time: Ticks) -> Vec<(ipnet::IpNet, Ticks)> {
    vec![("0.0.0.0/0".parse().unwrap(), time), ("::/0".parse().unwrap(), time)]
}

#[test]
fn the_clock_of_a_race_may_wrap() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.now = Ticks::from_micros((1 << 32) - 5_000);
    rig.plan(&[(0, 10)], |_| {});
    rig.send_syn(ISN);
    rig.wait(10);
    rig.receive_answer(0);
    assert_eq!(rig.answers(), [(host(V4_HOSTS.replicas[0]), true, true, Some(10))]);
}

#[test]
fn a_race_that_replaces_another_has_its_own_copies() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10), (1, 20)], |_| {});
    rig.send_syn(ISN);
    rig.plan(&[(2, 10)], |_| {});
    let (verdict, sent) = rig.send_syn(7 * ISN);
    assert_eq!((verdict, sent.len()), (Verdict::TaggedNewIsn, 2));
    // To the client it is another connection's.
    assert_eq!(rig.receive_answer(0).0, Verdict::FromOther);
    assert_eq!(rig.receive(rig.answer(2, 7 * ISN + 1)).0, Verdict::ReplicaWon);
}

#[test]
fn a_syn_of_another_server_gets_no_copies_while_the_endpoint_races() {
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, direct(), Keys::default(), |settings| {
        settings.services[0].ports.push(443);
    });
    rig.plan(&[(0, 10)], |_| {});
    rig.send_syn(ISN);
    let other = Segment::syn(V4_HOSTS.client, "203.0.113.10:443", 9).frame();
    let seen = rig.burst(Side::Inside, std::slice::from_ref(&other));
    assert_eq!(seen.verdicts, [Verdict::UntaggedEndpointInUse]);
    assert_eq!(seen.outside, [other]);
}
