//! The tag's option, the same everywhere, and the keys that sign and verify it.

use super::Findings;
use super::file::File;
use crate::control::keys::{Keys, Purpose};

pub(super) fn check(files: &[File], with_keys: bool, findings: &mut Findings) {
    let Some((first, others)) = files.split_first() else { return };
    for file in others {
        option(first, file, findings);
    }
    let gateways = files.iter().filter(|file| file.gateway().is_some());
    for gateway in gateways {
        for verifier in files.iter().filter(|file| file.gateway().is_none()) {
            keys(gateway, verifier, with_keys, findings);
        }
    }
}

/// Kind and experiment identifier are the same in all files.
fn option(first: &File, file: &File, findings: &mut Findings) {
    let (expected, own) = (&first.config.tag, &file.config.tag);
    if own.kind != expected.kind {
        let message = format!(
            "{}, but {} is {}; expected the same in all files, or no tag is found",
            own.kind,
            first.place("tag.kind"),
            expected.kind
        );
        findings.mistake(file.place("tag.kind"), message);
    }
    if own.exid != expected.exid {
        let message = format!(
            "{:#06x}, but {} is {:#06x}; expected the same in all files, or no tag is found",
            own.exid,
            first.place("tag.exid"),
            expected.exid
        );
        findings.mistake(file.place("tag.exid"), message);
    }
}

/// What a gateway signs, a switch or replica can verify.
fn keys(gateway: &File, verifier: &File, with_keys: bool, findings: &mut Findings) {
    let (signs, verifies) = (&gateway.config.tag, &verifier.config.tag);
    if signs.keys.is_none() {
        if verifies.require_signature {
            let message = format!(
                "true, but {} names no keys, and sends unsigned tags; expected keys there, or \
                 false here",
                gateway.place("tag.keys")
            );
            findings.mistake(verifier.place("tag.require_signature"), message);
        }
        return;
    }
    let (Some(signing), Some(verifying)) = (&signs.keys, &verifies.keys) else { return };
    if !with_keys {
        return;
    }
    // What is wrong with a key file by itself is said when a file is checked by itself, or at start.
    let load = |path, purpose| Keys::load(path, purpose).ok();
    let (Some(signing), Some(verifying)) =
        (load(signing, Purpose::Sign), load(verifying, Purpose::Check))
    else {
        return;
    };
    let own = |id: u8| verifying.all().iter().find(|(own, _)| *own == id);
    let place = || verifier.place("tag.keys");
    let there = gateway.place("tag.keys");
    if let Some(id) = signing.sign_with().filter(|id| own(*id).is_none()) {
        let message = format!(
            "lacks key {id}, with which {there} signs; expected it here as well, or every \
             signature is bad"
        );
        findings.mistake(place(), message);
    }
    for (id, key) in signing.all() {
        if own(*id).is_some_and(|(_, own)| own != key) {
            let message = format!(
                "key {id} differs from that of {there}; expected the same under one number"
            );
            findings.mistake(place(), message);
        }
    }
}
