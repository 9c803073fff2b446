//! What answers say of the path to a server, and the back-off.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Model, Record, span};

/// Witnesses on whose word a path is backed off from.
const WITNESSES: usize = 3;
/// The first time in the back-off.
const FIRST_SPAN: Duration = Duration::from_secs(10);
/// How long evidence is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// A second answer of the origin comes so long after the first.
const SECOND_ANSWER: Duration = Duration::from_millis(500);

/// A destination, for all clients or for those of a network.
type Scope = (SocketAddr, Option<IpNet>);

#[derive(Clone, Debug, Default)]
struct Path {
    witnesses: Vec<IpNet>,
    span: Duration,
    until: Duration,
    missed: Duration,
}

/// The paths that have missed.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<Scope, Path>);

fn prefix(client: SocketAddr, lengths: [u8; 2]) -> IpNet {
    let length = lengths[usize::from(client.is_ipv6())];
    IpNet::new(client.ip(), length).expect("a length of the family").trunc()
}

/// Returns both scopes of a client's race, each with who is the witness in it.
fn scopes(server: SocketAddr, client: SocketAddr) -> [(Scope, IpNet); 2] {
    let (own, network) = (prefix(client, [24, 48]), prefix(client, [24, 64]));
    [((server, None), own), ((server, Some(network)), prefix(client, [32, 128]))]
}

impl Model {
    pub(super) fn is_given_up(
        &self,
        server: SocketAddr,
        client: SocketAddr,
        now: Duration,
    ) -> bool {
        let until = |scope| self.paths.0.get(&scope).map(|path: &Path| path.until);
        scopes(server, client).into_iter().any(|(scope, _)| until(scope).is_some_and(|t| now < t))
    }

    fn missed(&mut self, server: SocketAddr, client: SocketAddr, now: Duration) {
        let longest = span(self.settings.timeouts.tag_backoff);
        for (scope, witness) in scopes(server, client) {
            let path = self.paths.0.entry(scope).or_default();
            if now.saturating_sub(path.missed.max(path.until)) >= MEMORY {
                *path = Path::default();
            }
            path.missed = now;
            if !path.witnesses.contains(&witness) {
                path.witnesses.push(witness);
            }
            if path.witnesses.len() == WITNESSES {
                path.span = if path.span.is_zero() { FIRST_SPAN } else { 2 * path.span };
                path.span = path.span.min(longest);
                path.until = now + path.span;
                path.witnesses.clear();
            }
        }
    }

    fn takes_tags(&mut self, server: SocketAddr, client: SocketAddr) {
        for (scope, _) in scopes(server, client) {
            self.paths.0.remove(&scope);
        }
    }

    /// The origin answers a race that nobody has answered.
    pub(super) fn origin_answers_first(
        &mut self,
        now: Duration,
        client: SocketAddr,
        known: &Record,
    ) {
        if known.untagged_late && known.held.is_none() {
            self.missed(known.server, client, now);
        } else {
            self.origin_answers(client, known);
        }
    }

    /// The origin answers a race.
    pub(super) fn origin_answers(&mut self, client: SocketAddr, known: &Record) {
        if known.tagged && !known.untagged {
            self.takes_tags(known.server, client);
        }
    }

    /// A replica that was not asked directly answers a race.
    pub(super) fn switch_answers(&mut self, client: SocketAddr, known: &Record) {
        if known.tagged {
            self.takes_tags(known.server, client);
        }
    }

    /// The origin, which has won, answers once more.
    pub(super) fn origin_answers_again(
        &mut self,
        now: Duration,
        client: SocketAddr,
        known: &Record,
    ) {
        if !known.untagged_late || now - known.since < SECOND_ANSWER {
            return;
        }
        for (scope, witness) in scopes(known.server, client) {
            if let Some(path) = self.paths.0.get_mut(&scope) {
                path.witnesses.retain(|known| *known != witness);
            }
        }
    }
}
