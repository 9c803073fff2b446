//! Drains of a gateway, a switch and a service, and the end of a gateway with connections.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use firstack_tests::demo::client::request;
use firstack_tests::lab::Family::V4;
use firstack_tests::processes::{Further, ProcessOptions};

use super::network::Network;
use super::{OrFail, all, alone};

/// The service of the lab, as the configurations name it.
const SERVICE: &str = "web";

#[test]
fn a_drained_gateway_is_empty_once_its_connections_have_ended() {
    let _alone = alone();
    let network = Network::new("drain", &[], &ProcessOptions::patent());
    let gateway = network.processes().or_fail().gateway();
    let mut unraced = 0;
    for name in [None, Some(SERVICE)] {
        let words = |rest: &[&'static str]| {
            let name = name.as_slice();
            [&["gate", rest[0]], name, &rest[1..]].concat()
        };
        let (mut open, site) = network.connect_to(V4, |site| site != "origin");
        let error = gateway.command(&words(&["drain", "--wait", "1s"])).expect_err("it is empty");
        assert!(error.to_string().contains("connections left"), "{error}");
        // The origin serves new connections, and what a replica has won goes on.
        assert_eq!(network.answers(V4, 3), all("origin", 3));
        unraced += 3;
        assert_eq!(request(&mut open, false).or_fail(), site);
        assert!(network.gateway().verdict("untagged_drained") >= unraced);
        drop(open);
        let shown = gateway.command(&words(&["drain", "--wait", "60s"])).or_fail().stdout;
        assert!(shown.ends_with("no connection left\n"), "{shown}");
        gateway.command(&words(&["undrain"])).or_fail();
        network.comes_to(V4, "replica1");
    }
    let raced = network.connections() - unraced;
    network.finish_with(raced);
}

#[test]
fn a_drained_switch_makes_no_copies() {
    let _alone = alone();
    let network = Network::new("draincopies", &[], &ProcessOptions::patent());
    let switch = network.processes().or_fail().switch();
    network.comes_to(V4, "replica1");
    for words in [&["gate", "drain"][..], &["gate", "drain", SERVICE]] {
        let before = network.switch().verdict("drained");
        switch.command(words).or_fail();
        assert_eq!(network.answers(V4, 3), all("origin", 3));
        assert!(network.switch().verdict("drained") >= before + 3, "{}", network.switch());
        let waiting = [words, &["--wait", "60s"]].concat();
        let shown = switch.command(&waiting).or_fail().stdout;
        assert!(shown.ends_with("no connection left\n"), "{shown}");
        let undrain = [&["gate", "undrain"], &words[2..]].concat();
        switch.command(&undrain).or_fail();
        network.comes_to(V4, "replica1");
    }
    network.finish();
}

#[test]
fn a_client_that_only_receives_is_told_when_its_gateway_ends() {
    let _alone = alone();
    // Otherwise the next gateway would go on with the connection.
    let further =
        Further { gateway: "[table]\nkeep = false\n".into(), ..ProcessOptions::patent().further };
    let options = ProcessOptions { further, ..ProcessOptions::patent() };
    let network = Network::new("goodbye", &[], &options);
    let (mut open, _) = network.connect_to(V4, |site| site != "origin");
    open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let finished = network.finish();
    let told = finished.gateway().generated.iter().find(|kind| kind.name == "lost_resets");
    assert!(told.is_some_and(|told| told.count >= 2), "{}", finished.gateway());
    // A web server that was late may have ended it before.
    match open.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}
