//! How packets are cut into bursts changes nothing: neither what becomes of each nor what
//! leaves by each side, in order.

use std::cell::Cell;
use std::rc::Rc;

use firstack_tests::model::corpus::{KEY, fuzzed};
use firstack_tests::model::plan::{Drawn, waiting, with_policy};
use firstack_tests::model::{
    Harness, Tally, gateway, partition, replica_of, replica_settings, run, switch,
};
use pipeline::base::published::Published;
use pipeline::memory::Policy;
use pipeline::packet::burst::BURST;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::role::gateway::{Gateway, Timeouts};
use pipeline::role::replica::Settings;
use pipeline::verdict::Verdict;
use proptest::collection::vec;

/// What a switch can decide here.
const AT_SWITCH: &[Verdict] = &[
    Verdict::FannedOut,
    Verdict::NotFannedOut,
    Verdict::NoReplica,
    Verdict::NoCopiesWanted,
    Verdict::FanOutLimited,
    Verdict::ToServer,
    Verdict::FromServer,
    Verdict::NoServer,
    Verdict::NoService,
    Verdict::TagIpChecksum,
    Verdict::TagTcpChecksum,
    Verdict::BadTag,
    Verdict::BadSignature,
    Verdict::IcmpToServer,
    Verdict::FragmentToServer,
    Verdict::Pending,
    Verdict::NeighbourLearned,
    Verdict::TooBig,
];

/// What a replica decides here in every run; in the model's traces, which are fed in bursts too, it
/// translates errors and gets busy.
const AT_REPLICA: &[Verdict] = &[
    Verdict::NoEntry,
    Verdict::ForeignTunnel,
    Verdict::CopyAccepted,
    Verdict::CopyRetransmit,
    Verdict::CopyDuplicate,
    Verdict::ToWebServer,
    Verdict::FromWebServer,
    Verdict::SynAckUnsolicited,
    Verdict::FragmentTranslated,
    Verdict::FragmentUnknown,
    Verdict::NeighbourAnswered,
    Verdict::NeighbourLearned,
    Verdict::ProbeAnswered,
    Verdict::BadTag,
    Verdict::PeerNotAllowed,
    Verdict::TunnelMalformed,
    Verdict::TunnelChecksum,
    Verdict::TunnelInnerChecksum,
    Verdict::TunnelNested,
    Verdict::CopyNotSyn,
    Verdict::CopyNotTagged,
    Verdict::CopyNoService,
    Verdict::CopyUnknownConfiguration,
    Verdict::CopyBadSignature,
    Verdict::TunnelOtherProtocol,
    Verdict::TunnelIcmp,
    Verdict::CopyData,
    Verdict::Pending,
];

fn check<R: Role + 'static>(
    cases: u32,
    harness: impl Fn() -> Harness<R> + 'static,
    reachable: &[Verdict],
) {
    let tally = Tally::default();
    let sizes = || vec(1usize..=BURST, 1..6);
    let harness = Rc::new(harness);
    let number = Cell::new(0);
    run(cases, &(fuzzed(6), sizes(), sizes()), |(arrivals, one, other)| {
        let singly = harness().feed_singly(&arrivals);
        tally.add(&singly.verdicts);
        number.set(number.get() + 1);
        if number.get() % 8 == 0 {
            // A reload that changes nothing is not seen.
            let (mut reloaded, next) = (harness(), Rc::clone(&harness));
            reloaded.reload_every(one[0] % 4, move || next().role);
            assert_eq!(reloaded.feed_singly(&arrivals), singly, "reloads");
            let counters = |role: &R| format!("{:?}", role.counters());
            let mut untouched = harness();
            untouched.feed_singly(&arrivals);
            assert_eq!(counters(&reloaded.role), counters(&untouched.role));
        }
        for sizes in [&one[..], &other, &[BURST]] {
            let in_bursts = harness().feed_in_bursts(&arrivals, sizes);
            assert_eq!(in_bursts, singly, "bursts of {sizes:?}");
        }
    });
    tally.check(reachable);
}

/// What a gateway of any configuration can decide here.
const AT_GATEWAY: [Verdict; 6] = [
    Verdict::Tagged,
    Verdict::ReplicaWon,
    Verdict::LoserReset,
    Verdict::ToReplica,
    Verdict::FragmentTranslated,
    Verdict::SynAckWrongNumber,
];

/// What makes frames wait at a gateway. Nobody releases them here.
const WAITING: [Verdict; 2] = [Verdict::SynDeferred, Verdict::SynAckHeld];

fn at_a_gateway<C: Mode>() {
    let settings = || gateway(4, Timeouts::default());
    check(600, move || Harness::<Gateway<C>>::gateway(settings(), None), &AT_GATEWAY);
    let planned = move |policy: &Policy| {
        let settings = with_policy(settings(), policy);
        let plans = Published::new(Drawn::usual().published(&settings));
        Harness::<Gateway<C>>::planned(settings, None, &plans)
    };
    let direct = Policy { direct: 2, ..Policy::default() };
    check(300, move || planned(&direct), &AT_GATEWAY);
    check(300, move || planned(&waiting()), &WAITING);
}

#[test]
fn at_the_gateway() {
    at_a_gateway::<A>();
    at_a_gateway::<B>();
    at_a_gateway::<C>();
}

#[test]
fn at_the_switch() {
    check(1500, || Harness::switch(switch(Some(KEY))), AT_SWITCH);
}

#[test]
fn at_the_replica() {
    // Without repairs, so that SYN/ACKs are unsolicited.
    let settings = || Settings { syn_ack_repair_rate: 0, ..replica_settings() };
    let harness = move || Harness::new(replica_of(settings(), |_| true, Some(KEY)).0, 8);
    check(1500, harness, AT_REPLICA);
}

#[test]
fn a_partition_keeps_every_packet_in_order() {
    run(200, &(fuzzed(1), vec(1usize..=BURST, 1..6)), |(arrivals, sizes)| {
        let mut next = 0;
        for range in partition(&arrivals, &sizes) {
            assert_eq!(range.start, next);
            assert!((1..=BURST).contains(&range.len()));
            next = range.end;
        }
        assert_eq!(next, arrivals.len());
    });
}
