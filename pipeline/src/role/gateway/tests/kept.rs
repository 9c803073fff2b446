//! Connections go on in another process, wherever the first one was killed.

use super::rig::{Hosts, ISN, Rig, V4_HOSTS, V6_HOSTS, host};
use super::*;
use crate::role::tests::killed::{Content, Killed, adopt, content};
use crate::table::failpoints::killed_in;
use crate::testing::socket;
use crate::wire::configuration::Configuration;
use crate::wire::tcp::Flags;

fn rig<M: Mode>(hosts: &'static Hosts, hash_key: u64) -> Rig<M> {
    let mut rig = Rig::<M>::with_settings(hosts, Policy::default(), Keys::default(), |settings| {
        settings.hash_key = (hash_key, 7);
    });
    rig.gateway.place_tables([None, None]).unwrap();
    rig
}

/// Shows an entry without what single stores change.
fn view<M: Mode>(gateway: &Gateway<M>) -> Content {
    fn shown<F: Family>(entry: &crate::table::Entry<Endpoint<F>, Phase, Flow<F>>) -> String {
        let mut flow = entry.value;
        (flow.next_from_client, flow.next_from_server) = (0, 0);
        flow.note_heard(Ticks(0));
        format!("{:?} {:?} {flow:?}", entry.key, entry.state())
    }
    [content(&gateway.v4.flows, shown), content(&gateway.v6.flows, shown)]
}

impl<M: Mode> Rig<M> {
    /// Goes on in another process, with another hash key.
    fn restart(&mut self) -> Imported {
        let memory = self.gateway.table_memory();
        let next = rig::<M>(self.hosts, 99).gateway;
        let all = memory.each_ref().map(Vec::as_slice);
        let (next, done) = adopt(&all, next, self.now);
        let now = self.now;
        *self = rig(self.hosts, 99);
        (self.gateway, self.now) = (next, now);
        done
    }

    /// Takes a frame, and checks what would be left at each point between two stores.
    fn killed_at(&mut self, side: Side, frame: Vec<u8>) -> (Verdict, usize) {
        let before = self.gateway.table_memory();
        let mut verdict = Verdict::NonIp;
        let seen = killed_in(|| verdict = self.burst(side, &[frame]).verdicts[0]);
        let after = self.gateway.table_memory();
        let (now, hosts) = (self.now, self.hosts);
        let killed = Killed { before, seen, after };
        (verdict, killed.check(now, || rig::<M>(hosts, 3).gateway, view))
    }

    /// Returns a segment of the winner in the configuration's form.
    fn winners(&self, flags: u8, sequence: u32, ack: u32) -> Vec<u8> {
        let Hosts { client, server, replicas, .. } = self.hosts;
        let from = if M::CONFIGURATION == Configuration::A { replicas[0] } else { server };
        let segment = Segment::new(from, client, flags, sequence, ack);
        match M::CONFIGURATION {
            Configuration::C => segment.tunnelled(&host(replicas[0]), &host(client)),
            _ => segment.frame(),
        }
    }
}

fn in_all_forms(check: impl Fn(&'static Hosts, usize)) {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        (0..3).for_each(|configuration| check(hosts, configuration));
    }
}

fn goes_on<M: Mode>(hosts: &'static Hosts) {
    let mut rig = rig::<M>(hosts, 1);
    // A race under way is decided by the next process.
    rig.send_syn(ISN);
    assert_eq!(rig.restart().adopted, 1);
    assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    rig.restart();
    assert_eq!(rig.data(), Verdict::ToReplica);
    rig.restart();
    let data = rig.winners(Flags::ACK, 501, ISN + 1);
    let from_winner = rig.receive(data).0;
    assert_eq!(from_winner, rig.receive(rig.winners(Flags::ACK, 501, ISN + 1)).0);
    assert_eq!(rig.data(), Verdict::ToReplica);
    let address = socket(hosts.client).ip();
    let mut counted = [0, 0];
    match hosts.version {
        Version::V4 => {
            let flows = &rig.gateway.v4.flows;
            counted[0] = flows.count_of_host(endpoint::<V4>(hosts.client));
        }
        Version::V6 => {
            let flows = &rig.gateway.v6.flows;
            counted[1] = flows.count_of_host(endpoint::<V6>(hosts.client));
        }
    }
    assert_eq!(counted[hosts.version as usize], 1, "{address}");
}

#[test]
fn connections_and_races_go_on_in_another_process() {
    in_all_forms(|hosts, configuration| match configuration {
        0 => goes_on::<A>(hosts),
        1 => goes_on::<B>(hosts),
        _ => goes_on::<C>(hosts),
    });
}

fn killed_anywhere<M: Mode>(hosts: &'static Hosts) {
    let mut rig = rig::<M>(hosts, 1);
    let client = |flags, sequence, ack| {
        Segment::new(hosts.client, hosts.server, flags, sequence, ack).frame()
    };
    let (ack, fin) = (Flags::ACK, Flags::FIN | Flags::ACK);
    let syn = rig.syn(ISN).frame();
    let mut unfinished = 0;
    let mut take = |rig: &mut Rig<M>, side, frame| {
        let (verdict, points) = rig.killed_at(side, frame);
        unfinished += points;
        verdict
    };
    assert_eq!(take(&mut rig, Side::Inside, syn.clone()), Verdict::Tagged);
    rig.wait(1000);
    assert_eq!(take(&mut rig, Side::Inside, syn), Verdict::TaggedRetransmit);
    let answer = rig.answer(0, ISN + 1);
    assert_eq!(take(&mut rig, Side::Outside, answer.clone()), Verdict::ReplicaWon);
    assert_eq!(take(&mut rig, Side::Outside, answer), Verdict::SynAckRetransmit);
    assert_eq!(take(&mut rig, Side::Inside, client(ack, ISN + 1, 501)), Verdict::ToReplica);
    assert_eq!(take(&mut rig, Side::Inside, client(fin, ISN + 1, 501)), Verdict::ToReplica);
    let end = rig.winners(fin, 501, ISN + 2);
    take(&mut rig, Side::Outside, end);
    let reset = rig.winners(Flags::RST, 502, 0);
    take(&mut rig, Side::Outside, reset);
    // A new race in place of what has ended, and one that the origin wins.
    let again = client(Flags::RST, ISN + 2, 0);
    take(&mut rig, Side::Inside, again);
    let syn = rig.syn(7000).frame();
    assert_eq!(take(&mut rig, Side::Inside, syn), Verdict::TaggedNewIsn);
    let origins = rig.origins_answer(7001);
    assert_eq!(take(&mut rig, Side::Outside, origins), Verdict::OriginWon);
    assert!(unfinished > 10, "only {unfinished} points within a change");
    let memory = rig.gateway.table_memory();
    let all = memory.each_ref().map(Vec::as_slice);
    assert_eq!(adopt(&all, self::rig::<M>(hosts, 2).gateway, rig.now).1.torn, 0);
}

#[test]
fn a_gateway_killed_anywhere_leaves_every_connection_whole() {
    in_all_forms(|hosts, configuration| match configuration {
        0 => killed_anywhere::<A>(hosts),
        1 => killed_anywhere::<B>(hosts),
        _ => killed_anywhere::<C>(hosts),
    });
}

#[test]
fn an_entry_of_a_service_that_there_is_not_is_dropped() {
    let mut rig = rig::<A>(&V4_HOSTS, 1);
    rig.send_syn(ISN);
    let slot = rig.gateway.v4.flows.live().next().map(|entry| entry.key).unwrap();
    let flows = &mut rig.gateway.v4.flows;
    let slot = flows.find(flows.hash(slot), slot, rig.now).unwrap();
    flows.value_mut(slot).service = 1;
    flows.settle();
    let done = rig.restart();
    assert_eq!((done.adopted, done.invalid), (0, 1));
}

#[test]
fn a_syn_ack_that_waited_is_gone_and_the_next_one_is_not_taken_for_it() {
    let mut rig = rig::<A>(&V4_HOSTS, 1);
    rig.send_syn(ISN);
    let key = endpoint::<V4>(V4_HOSTS.client);
    let flows = &mut rig.gateway.v4.flows;
    let slot = flows.find(flows.hash(key), key, rig.now).unwrap();
    flows.value_mut(slot).replica = endpoint(V4_HOSTS.replicas[0]);
    flows.settle();
    rig.restart();
    let flow = rig.gateway.v4.flows.live().next().map(|entry| entry.value).unwrap();
    assert_eq!(flow.replica, Endpoint::NONE);
}

#[test]
fn the_table_of_another_configuration_is_refused() {
    let memory = rig::<A>(&V4_HOSTS, 1).gateway.table_memory();
    for bytes in &memory {
        let kept = Kept::new(bytes).unwrap();
        assert!(Gateway::<A>::may_import(&kept).is_ok());
        let refused = Gateway::<C>::may_import(&kept).unwrap_err().to_string();
        assert_eq!(refused, "the table of a gateway of configuration A");
    }
}
