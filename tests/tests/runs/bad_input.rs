//! What a run makes of input that is none.

use firstack_tests::scenario::Side;

use crate::connections::for_each_client;
use crate::harness::{Harness, ended_well, is_conserved, scenario};

#[test]
fn captures_that_are_empty_or_break_off_end_well() {
    let scenario = scenario("gateway/tag/added");
    let syns = for_each_client(&scenario, Side::Inside, &["CLIENT > V SYN seq=1000 opts=linux"]);
    let harness = Harness::new(&scenario, &[Vec::new(), Vec::new()]);
    is_conserved(&ended_well(&harness.run_until_idle()), [0, 0], [0, 0]);
    // The last frame is not whole: those before it are forwarded.
    let harness = Harness::new(&scenario, &[syns[..3].to_vec(), Vec::new()]);
    let whole = std::fs::read(&harness.inputs[0]).unwrap();
    std::fs::write(&harness.inputs[0], &whole[..whole.len() - 5]).unwrap();
    is_conserved(&ended_well(&harness.run(&[0], 1)), [2, 0], [0, 2]);
}

#[test]
fn a_capture_that_is_none_is_named() {
    let scenario = scenario("gateway/tag/added");
    for bytes in [&b""[..], b"This is a text and no capture."] {
        let harness = Harness::new(&scenario, &[Vec::new(), Vec::new()]);
        std::fs::write(&harness.inputs[1], bytes).unwrap();
        let output = harness.run_until_idle();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = harness.inputs[1].to_string_lossy().into_owned();
        assert!(said.contains(&name) && !said.contains("panicked"), "{said}");
        assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
        assert!(!harness.path("socket").exists(), "the control socket is left behind");
    }
}

#[test]
fn a_bad_configuration_starts_nothing() {
    let scenario = scenario("gateway/tag/added");
    let harness = Harness::new(&scenario, &[Vec::new(), Vec::new()]);
    ended_well(&harness.run(&[0], 1));
    for side in Side::ALL {
        std::fs::remove_file(harness.out(side, 0)).unwrap();
    }
    let good = std::fs::read_to_string(harness.path("run.toml")).unwrap();
    let bad = harness.path("bad.toml");
    std::fs::write(&bad, good.replace("cores", "corse")).unwrap();
    let output = harness.start(&bad, None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bad.toml:") && said.contains("worker.cores"), "{said}");
    assert!(output.stdout.is_empty() && !harness.path("socket").exists());
    assert!(Side::ALL.iter().all(|side| !harness.out(*side, 0).exists()), "a port was opened");
}
