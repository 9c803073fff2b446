//! The layout of what tables keep for the next process, which may be another build.
//!
//! If it fails, the layout has changed: give [`crate::table`] another number for it (`LAYOUT`), and
//! write the text that the test prints to `layout/NUMBER.txt`. An older table is then refused, unless it
//! is read as what it is: `Kept` reads layout 1, whose entries are those of layout 2.

use std::fmt::Write as _;

use crate::base::stored::Stored;
use crate::role::gateway::flow::{self, Flow};
use crate::role::replica;
use crate::role::switch::{self, Affinity};
use crate::role::tracking::TcpTracking;
use crate::table::{Entry, Kind, LAYOUT, State, header_described};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, V4, V6};
use crate::wire::tunnel::Format;

/// The layouts so far, by number.
const LAYOUTS: [&str; 2] = [include_str!("layout/1.txt"), include_str!("layout/2.txt")];

fn fields<T: Stored>(text: &mut String, name: &str) {
    let size = size_of::<T>();
    let _ = writeln!(text, "{name}: {size} bytes, at multiples of {}", align_of::<T>());
    for (field, offset, length) in T::FIELDS {
        let _ = writeln!(text, "    {offset} {field} {length}");
    }
}

fn states<S: State + std::fmt::Debug>(text: &mut String, name: &str) {
    let _ = writeln!(text, "{name}");
    S::ALL.iter().for_each(|state| {
        let _ = writeln!(text, "    {} {state:?}", state.queue());
    });
}

fn described() -> String {
    let mut text = header_described();
    fields::<Entry<Endpoint<V4>, flow::Phase, Flow<V4>>>(&mut text, "gateway, IPv4");
    fields::<Entry<Endpoint<V6>, flow::Phase, Flow<V6>>>(&mut text, "gateway, IPv6");
    fields::<Entry<[Endpoint<V4>; 2], switch::Phase, Affinity>>(&mut text, "switch, IPv4");
    fields::<Entry<[Endpoint<V6>; 2], switch::Phase, Affinity>>(&mut text, "switch, IPv6");
    type Connections<F> = Entry<Endpoint<F>, replica::Phase, replica::Connection<F>>;
    fields::<Connections<V4>>(&mut text, "replica, IPv4");
    fields::<Connections<V6>>(&mut text, "replica, IPv6");
    fields::<Endpoint<V4>>(&mut text, "endpoint, IPv4");
    fields::<Endpoint<V6>>(&mut text, "endpoint, IPv6");
    fields::<Flow<V4>>(&mut text, "flow, IPv4");
    fields::<Flow<V6>>(&mut text, "flow, IPv6");
    fields::<Affinity>(&mut text, "affinity");
    fields::<replica::Connection<V4>>(&mut text, "connection, IPv4");
    fields::<replica::Connection<V6>>(&mut text, "connection, IPv6");
    states::<flow::Phase>(&mut text, "states at the gateway");
    states::<switch::Phase>(&mut text, "states at the switch");
    states::<replica::Phase>(&mut text, "states at the replica");
    let _ = writeln!(text, "configurations {:?}, tunnels {:?}", Configuration::ALL, Format::ALL);
    let _ = writeln!(text, "events {}", TcpTracking::described());
    let _ = writeln!(text, "races {}", flow::RaceFlags::described());
    text
}

#[test]
fn a_layout_that_changes_has_another_number() {
    let now = described();
    let known = (LAYOUT as usize).checked_sub(1).and_then(|number| LAYOUTS.get(number));
    assert_eq!(LAYOUTS.len(), LAYOUT as usize, "the last layout is this build's");
    assert_eq!(known.copied(), Some(now.as_str()), "the layout has changed:\n{now}");
}

#[test]
fn layout_1_has_the_entries_of_layout_2() {
    let entries = LAYOUTS[1].split_once('\n').map(|(_header, entries)| entries);
    assert_eq!(entries, Some(LAYOUTS[0]));
}

#[test]
fn states_are_their_numbers_in_memory() {
    fn check<S: State + Stored + std::fmt::Debug>(byte: fn(S) -> u8) {
        for &state in S::ALL {
            assert_eq!(usize::from(byte(state)), state.queue());
            assert!(S::read(&[byte(state)]) == Some(state));
        }
        assert!(S::read(&[S::ALL.len() as u8]).is_none());
    }
    check::<flow::Phase>(|state| state as u8);
    check::<switch::Phase>(|state| state as u8);
    check::<replica::Phase>(|state| state as u8);
}

#[test]
fn every_role_has_its_own_tables() {
    let mut names: Vec<_> = Configuration::ALL
        .map(Kind::Gateway)
        .into_iter()
        .chain([Kind::Switch, Kind::Replica])
        .map(|kind| kind.to_string())
        .collect();
    names.dedup();
    assert_eq!(names.len(), 5);
}
