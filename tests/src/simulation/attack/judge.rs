//! What must hold for honest connections in a run with an attacker.

use std::fmt;
use std::net::SocketAddr;

use super::scene::{AT, BOUND};
use super::{Attack, Move};
use crate::simulation::address::REPLICAS;
use crate::simulation::check::{self, Judgement};
use crate::simulation::client::Call;
use crate::simulation::plan::{Nanos, SECOND};
use crate::simulation::station;
use crate::simulation::variety::Signing;
use crate::simulation::world::World;

/// How often one signature passes a switch, and a replica, at most.
const PASSES: [u64; 2] = [3, 8];
/// Bytes per second of SYN/ACKs that web servers repeat, which a replica lets pass whoever asks:
/// `replica.syn_ack_repair_rate` of them, in the longest tunnel.
const REPAIRS: u64 = 20 * 120;
/// How long web servers repeat them.
const REPEATING: Nanos = 62 * SECOND;
/// Bytes of a copied error, at most.
const COPIED_ERROR: u64 = 148;

/// A property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// No honest connection is taken over: data comes from an honest server, and the attacker's host
    /// gets nothing.
    NotTakenOver,
    /// None is lost.
    NotLost,
    /// Before the attack, and from a stated time after it, every connection is raced.
    RacedAgain,
    /// So is one on a port that the attacker has used before.
    RacedOnPinnedPort,
    /// The forged victims get no more than a multiple of what the attacker sends.
    NoAmplifier,
    /// A signature passes a bounded number of times, and not in a later epoch.
    NoReplay,
    /// Nothing else is wrong: packets are accounted for, entries expire, nothing goes to nobody.
    Sound,
}

impl Property {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NotTakenOver,
        Self::NotLost,
        Self::RacedAgain,
        Self::RacedOnPinnedPort,
        Self::NoAmplifier,
        Self::NoReplay,
        Self::Sound,
    ];
}

/// When an honest connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the attack.
    Before,
    /// From the attack's begin to its end.
    During,
    /// Within the bound after the end.
    Soon,
    /// Later.
    After,
    /// At any time, on a port that the attacker has used before.
    Pinned,
}

/// Connections of a phase, and how many of them a replica was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All.
    pub all: u64,
    /// Those that were raced.
    pub raced: u64,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all {
            0 => f.pad("-"),
            all => f.pad(&format!("{} %", self.raced * 100 / all)),
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is wrong, by property.
    pub wrong: Vec<(Property, String)>,
    /// By phase.
    pub shares: [Share; 5],
    /// Bytes that the attacker has sent, and bytes that forged sources got from replicas.
    pub bytes: [u64; 2],
}

/// Returns the phase of a connection.
fn phase(world: &World, call: &Call) -> Phase {
    let Some(attack) = &world.plan.attack else { return Phase::Before };
    match call.begun {
        _ if attack.pinned.contains(&call.id) => Phase::Pinned,
        at if at < AT => Phase::Before,
        at if at <= attack.end() => Phase::During,
        at if at < attack.end() + BOUND => Phase::Soon,
        _ => Phase::After,
    }
}

/// Returns whether a replica has given the SYN of a connection to a web server. What the server does
/// is its own: one that still has a half-open connection of the same endpoint sends a challenge ACK.
fn is_raced(world: &World, client: SocketAddr, call: &Call) -> bool {
    let Some(isn) = call.isn else { return false };
    let given = |site| world.attacker.copies.contains_key(&(client, isn, site, false));
    (REPLICAS..world.plan.sites()).any(given)
}

/// Judges a run that has ended, or not.
#[must_use]
pub fn judge(world: &mut World, done: bool) -> Verdict {
    let mut verdict = Verdict::default();
    if !done {
        verdict.wrong.push((Property::Sound, "the run does not end".into()));
    }
    for client in world.clients() {
        for call in &client.calls {
            one(world, (client.endpoint(call), call), &mut verdict);
        }
    }
    if let Some(heard) = world.attacker.heard.first() {
        let count = world.attacker.heard.len();
        let what = format!("{count} segments of honest clients come to the attacker: {heard}");
        verdict.wrong.push((Property::NotTakenOver, what));
    }
    amplification(world, &mut verdict);
    replays(world, &mut verdict);
    let wrong = std::mem::take(&mut world.wrong);
    verdict.wrong.extend(wrong.into_iter().map(|what| (Property::Sound, what)));
    world.expire();
    for station in world.stations() {
        let unsound = |what| (Property::Sound, what);
        verdict.wrong.extend(station::conserves(&**station).err().map(unsound));
        let live = station::live(&**station);
        if live > 0 {
            let what = format!("{}: {live} entries outlive their time-outs", station.name());
            verdict.wrong.push((Property::Sound, what));
        }
    }
    verdict
}

fn one(world: &World, (client, call): (SocketAddr, &Call), verdict: &mut Verdict) {
    let (phase, raced) = (phase(world, call), is_raced(world, client, call));
    let share = &mut verdict.shares[phase as usize];
    share.all += 1;
    share.raced += u64::from(raced);
    let begun = call.begun as f64 / 1e9;
    if let Judgement::Wrong(why) = check::judge(world, client, call) {
        let what = format!("connection {} of {client}, {begun:.1} s, {phase:?}: {why}", call.id);
        verdict.wrong.push((Property::NotLost, what));
    }
    let property = match phase {
        Phase::Before | Phase::After => Property::RacedAgain,
        Phase::Pinned if may_be_busy(world) => return,
        Phase::Pinned => Property::RacedOnPinnedPort,
        Phase::During | Phase::Soon => return,
    };
    if !raced {
        let what =
            format!("connection {} of {client}, {begun:.1} s, {phase:?}, not raced", call.id);
        verdict.wrong.push((property, what));
    }
}

/// Returns whether the attacker does what keeps connections from being raced while it lasts, whatever
/// their port.
fn may_be_busy(world: &World) -> bool {
    let floods = [
        Move::Handshakes,
        Move::VictimPrefix,
        Move::RandomPrefixes,
        Move::Copies,
        Move::AcknowledgedCopies,
    ];
    let attack = world.plan.attack.as_ref();
    attack.is_some_and(|attack| floods.into_iter().any(|flood| attack.has(flood)))
}

/// Where tags are signed, nothing that was recorded passes for long.
fn replays(world: &World, verdict: &mut Verdict) {
    if world.plan.signing != Signing::Signed {
        return;
    }
    for ((client, isn, site, is_switch), times) in &world.attacker.copies {
        let most = PASSES[usize::from(!is_switch)];
        if times.late > 0 || times.all > most {
            let what =
                format!("SYN {isn} of {client} for site {site}: {times:?}, switch: {is_switch}");
            verdict.wrong.push((Property::NoReplay, what));
        }
    }
}

fn amplification(world: &World, verdict: &mut Verdict) {
    let (attacker, replicas) = (&world.attacker, world.replicas());
    verdict.bytes = [attacker.sent, attacker.echoed];
    let attack = world.plan.attack.as_ref().map_or(0, Attack::end);
    let repairs = (attack.saturating_sub(AT) + REPEATING) / SECOND * REPAIRS;
    if attacker.echoed > replicas * (attacker.sent + repairs) {
        let what = format!("{} bytes for {} of the attacker", attacker.echoed, attacker.sent);
        verdict.wrong.push((Property::NoAmplifier, what));
    }
    let [sent, copied] = attacker.errors;
    if copied > sent.min(sent / 1_000 * COPIED_ERROR * replicas) {
        let what = format!("{copied} bytes of copied errors for {sent}");
        verdict.wrong.push((Property::NoAmplifier, what));
    }
}
