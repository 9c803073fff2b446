//! Signed tags: who may cause copies, and a change of keys that no connection notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::burst_while;
use firstack_tests::lab::Family::V4;
use firstack_tests::processes::ProcessOptions;

use super::network::Network;
use super::{MAX_WAIT, OrFail, all, alone, comes_true, tagged};

const OLD: &str = "7 00112233445566778899aabbccddeeff";
const NEW: &str = "8 ffeeddccbbaa99887766554433221100";

fn keyed(name: &str) -> Network {
    let keys = Some(format!("# the only one\n{OLD} sign\n"));
    Network::new(name, &[("4KB", 4_000)], &ProcessOptions { keys, ..ProcessOptions::patent() })
}

#[test]
fn only_a_signed_tag_gets_copies_where_that_is_required() {
    let _alone = alone();
    let network = keyed("signed");
    let processes = network.processes().or_fail();
    network.comes_to(V4, "replica1");
    let before = network.switch().verdict("fanned_out");
    // A key that the switch does not know, and a wrong one under a number that it knows.
    for wrong in [NEW, &NEW.replacen('8', "7", 1)] {
        processes.gateway().change_keys(&format!("{wrong} sign\n")).or_fail();
        assert_eq!(network.answers(V4, 2), all("origin", 2), "signed by {wrong}");
    }
    // Broken files change nothing.
    for broken in ["nonsense\n".to_string(), format!("{OLD}\n")] {
        let error = processes.gateway().change_keys(&broken).expect_err("a broken file was taken");
        println!("{error}");
        assert_eq!(network.answer(V4), "origin");
    }
    let switch = network.switch();
    assert_eq!(switch.verdict("fanned_out"), before, "{switch}");
    assert!(switch.verdict("bad_signature") >= 6, "{switch}");
    processes.gateway().change_keys(&format!("{OLD} sign\n")).or_fail();
    network.comes_to(V4, "replica1");
    // A replica tests for itself what the switch has let through.
    processes.replica(1).change_keys(&format!("{NEW}\n")).or_fail();
    let rejected = || {
        network.answers_without(V4, 1, &["replica1"]);
        network.replica(1).verdict("bad_signature") > 0
    };
    assert!(comes_true(MAX_WAIT, rejected), "{}", network.replica(1));
    network.comes_to(V4, "replica2");
    network.finish();
}

#[test]
fn keys_change_under_load_without_a_failed_connection() {
    let _alone = alone();
    let network = keyed("rotation");
    let processes = network.processes().or_fail();
    let (_, bytes) = network.file("4KB").or_fail();
    let (client, service) = (network.client(), network.service(V4));
    let (both, only) = (format!("{OLD}\n{NEW}\n"), format!("{NEW}\n"));
    let (stop, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || !stop.load(Relaxed) && begun.fetch_add(1, Relaxed) < usize::MAX;
    let burst = std::thread::scope(|scope| {
        let load = scope.spawn(|| burst_while(client, service, ("4KB", &bytes), 20, goes_on));
        // Ends the load even when something fails here.
        let _stop = Stop(&stop);
        let more = |count| {
            let until = begun.load(Relaxed) + count;
            assert!(comes_true(MAX_WAIT, || begun.load(Relaxed) >= until), "the load is over");
        };
        let takers = || processes.all().iter().skip(1);
        more(100);
        takers().for_each(|appliance| drop(appliance.change_keys(&both).or_fail()));
        processes.gateway().change_keys(&format!("{OLD}\n{NEW} sign\n")).or_fail();
        // What was signed by the old one is still on its way.
        wait_until_verified(&network);
        takers().for_each(|appliance| drop(appliance.change_keys(&only).or_fail()));
        processes.gateway().change_keys(&format!("{NEW} sign\n")).or_fail();
        more(100);
        stop.store(true, Relaxed);
        load.join().unwrap()
    });
    let burst = burst.or_fail();
    assert_eq!(burst.failed, Vec::<String>::new());
    assert!(burst.successes() >= 200, "{}", burst.successes());
    network.made(burst.successes());
    let before = network.switch().verdict("fanned_out");
    network.comes_to(V4, "replica1");
    assert!(network.switch().verdict("fanned_out") > before, "the new key gets copies");
    let finished = network.finish();
    for ended in &finished.ended {
        let [switch, replica] = ["bad_signature", "bad_signature"];
        let wrong = ended.snapshot.verdict(switch) + ended.snapshot.verdict(replica);
        assert_eq!(wrong, 0, "{}: {}", ended.name, ended.snapshot);
    }
}

/// Waits until every SYN that the gateway has tagged by now was verified by the switch, and every
/// copy that the switch has made by then by its replica. Packets keep their order on the way.
fn wait_until_verified(network: &Network) {
    let fanned_out =
        |switch: &Snapshot| switch.verdict("fanned_out") + switch.verdict("no_replica");
    let sent = tagged(&network.gateway());
    assert!(comes_true(MAX_WAIT, || fanned_out(&network.switch()) >= sent));
    let copies = network.switch().copies;
    for number in [1, 2] {
        let name = format!("replica{number}");
        let sent = copies.iter().find(|copies| copies.name.ends_with(&name)).unwrap().count;
        let received = || {
            let replica = network.replica(number);
            let verdicts =
                ["copy_accepted", "copy_retransmit", "copy_new_isn", "copy_endpoint_in_use"];
            verdicts.iter().map(|verdict| replica.verdict(verdict)).sum::<u64>()
        };
        assert!(comes_true(MAX_WAIT, || received() >= sent), "{name}: {sent} copies");
    }
}

/// Sets a flag when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
