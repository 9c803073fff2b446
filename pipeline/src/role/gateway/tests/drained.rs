//! A gateway, or one of its services, that an operator has drained.

use super::rig::{ISN, Rig, V4_HOSTS, V6_HOSTS, direct};
use super::*;

#[test]
fn a_drained_service_races_no_new_syn_and_keeps_its_connections() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = Rig::<A>::new(hosts, direct());
        let drain = Arc::clone(&rig.gateway.common.settings.drain);
        assert_eq!(rig.other_race(1).0, Verdict::Tagged);
        rig.send_syn(ISN);
        assert!(drain.set_service(0, true));
        assert_eq!(rig.other_race(2).0, Verdict::UntaggedDrained);
        // A race in progress is decided, and its connection goes on.
        assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
        assert_eq!(rig.data(), Verdict::ToReplica);
        drain.set_service(0, false);
        drain.set_whole(true);
        assert_eq!(rig.other_race(2).0, Verdict::UntaggedDrained);
        drain.set_whole(false);
        assert_eq!(rig.other_race(2).0, Verdict::Tagged);
    }
}

#[test]
fn what_is_left_are_races_and_connections_that_replicas_have_won() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = Rig::<A>::new(hosts, direct());
        let drain = Arc::clone(&rig.gateway.common.settings.drain);
        rig.send_syn(ISN);
        rig.receive_answer(0);
        rig.data();
        rig.other_race(1);
        drain.set_whole(true);
        rig.timer();
        let left = drain.left(1).expect("one step counts them all");
        assert_eq!((left.connections, left.seen), (2, rig.now));
        // The race times out, and both ends of the other one finish.
        rig.wait(41_000);
        for (side, frame) in [(Side::Inside, false), (Side::Outside, true)] {
            let fin = crate::wire::tcp::Flags::FIN | crate::wire::tcp::Flags::ACK;
            let (from, to) = match frame {
                false => (hosts.client, hosts.server),
                true => (hosts.replicas[0], hosts.client),
            };
            let (sequence, ack) = if frame { (501, 102) } else { (101, 501) };
            let segment = Segment::new(from, to, fin, sequence, ack);
            let frame = if frame { segment.inbound().frame() } else { segment.frame() };
            rig.burst(side, &[frame]);
        }
        rig.timer();
        rig.timer();
        assert_eq!(drain.left_of(0, 1).unwrap().connections, 0);
    }
}
