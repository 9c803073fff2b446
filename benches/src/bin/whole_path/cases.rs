//! The systems under test at one number of connections, and their cases.

use anyhow::{Context, Result};
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use crate::frames;
use crate::lab::Lab;
use crate::loops::{Bare, Loop};
use crate::roles;
use crate::source::{Program, Walk};
use crate::system_under_test::{Base, Case, Opening, SystemUnderTest};
use crate::template::Template;
use crate::waiting::Waiting;

/// The smallest table. An operator would not configure a smaller one.
const LEAST_TABLE: u32 = 1_024;

/// The systems, by name.
pub const SYSTEMS: [&str; 10] = [
    "io",
    "macswap",
    "5tswap",
    "gateway A",
    "gateway B",
    "gateway C",
    "switch",
    "replica A",
    "replica B",
    "replica C",
];

impl Base {
    /// Returns the case's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BothWays => "io",
            Self::OneWay => "io, one way",
            Self::FromL3 => "io, from L3",
        }
    }
}

/// Systems with open connections, and cases.
#[derive(Default)]
pub struct Plan {
    pub systems: Vec<SystemUnderTest>,
    pub cases: Vec<Case>,
}

/// Selection of systems and cases.
pub struct Wanted<'a> {
    pub connections: u32,
    /// Prefixes, of which a system's name must have one. All systems when empty.
    pub only: &'a [String],
    /// Whether each direction is measured separately, too.
    pub directions: bool,
}

impl Wanted<'_> {
    fn wants(&self, name: &str) -> bool {
        // Every comparison needs the io loop.
        name == "io" || self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only))
    }

    fn table(&self) -> usize {
        self.connections.max(LEAST_TABLE) as usize
    }
}

/// Builds the selected systems and opens their connections. Calls `report` with the name of each.
pub fn plan(lab: &mut Lab, wanted: &Wanted<'_>, mut report: impl FnMut(&str)) -> Result<Plan> {
    let mut plan = Plan::default();
    let order = SYSTEMS.iter().enumerate().filter(|(_, name)| wanted.wants(name));
    for (number, &name) in order {
        report(name);
        let table = wanted.table();
        match name {
            "gateway A" => plan.gateway(lab, number, name, roles::gateway::<A>(table), wanted)?,
            "gateway B" => plan.gateway(lab, number, name, roles::gateway::<B>(table), wanted)?,
            "gateway C" => plan.gateway(lab, number, name, roles::gateway::<C>(table), wanted)?,
            "switch" => {
                plan.role(lab, (number, name), roles::switch(table), 2, &frames::switch(), wanted)?
            }
            "replica A" => plan.replica(lab, number, name, Configuration::A, wanted)?,
            "replica B" => plan.replica(lab, number, name, Configuration::B, wanted)?,
            "replica C" => plan.replica(lab, number, name, Configuration::C, wanted)?,
            _ => plan.bare(lab, number, name, wanted)?,
        }
    }
    Ok(plan)
}

/// Returns programs of packets in both directions that cycle through all connections. The sides are
/// half a cycle apart, so that neither finds in cache what the other has just fetched.
pub fn both_ways(templates: &[Template; 2], connections: u32) -> [Program; 2] {
    [
        Program::Round(templates[0].clone(), Walk::new(connections, 0)),
        Program::Round(templates[1].clone(), Walk::new(connections, 128)),
    ]
}

/// Returns the same programs with frames that are received from L3.
fn from_l3(lab: &Lab, templates: &[Template; 2], connections: u32) -> [Program; 2] {
    both_ways(templates, connections).map(|program| match program {
        Program::Round(template, walk) => {
            Program::FromL3(template, walk, Box::new(Waiting::new(lab.pool.handle())))
        }
        other => other,
    })
}

fn one_way(templates: &[Template; 2], connections: u32, side: Side) -> [Program; 2] {
    let mut programs = both_ways(templates, connections);
    programs[side.other() as usize] = Program::Silence;
    programs
}

impl Plan {
    fn case(&mut self, name: String, programs: [Program; 2], verdicts: [Vec<Verdict>; 2]) {
        let any = |of: fn(&Program) -> bool| programs.iter().any(of);
        let base = match () {
            () if any(|program| matches!(program, Program::Silence)) => Base::OneWay,
            () if any(|program| matches!(program, Program::FromL3(..))) => Base::FromL3,
            () => Base::BothWays,
        };
        let bytes = [0, 1].map(|side| programs[side].frame_len());
        self.cases.push(Case {
            name,
            system: self.systems.len() - 1,
            programs,
            verdicts,
            base,
            bytes,
        });
    }

    fn bare(&mut self, lab: &mut Lab, pair: usize, name: &str, wanted: &Wanted<'_>) -> Result<()> {
        let what = Loop::ALL.into_iter().find(|what| what.name() == name);
        let what = what.with_context(|| format!("no system is called {name}"))?;
        let (ends, sources) = lab.ends(pair)?;
        let forwarder = Box::new(Bare::new(ends, what));
        self.systems.push(SystemUnderTest { name: name.to_owned(), forwarder, sources });
        let templates = frames::gateway::<A>().going;
        let connections = wanted.connections;
        self.case(name.to_owned(), both_ways(&templates, connections), Default::default());
        let programs = from_l3(lab, &templates, connections);
        self.case(format!("{name}, from L3"), programs, Default::default());
        if what == Loop::Io && wanted.directions {
            let programs = one_way(&templates, connections, Side::Inside);
            self.case(Base::OneWay.name().to_owned(), programs, Default::default());
        }
        Ok(())
    }

    fn role<R: Role + 'static>(
        &mut self,
        lab: &mut Lab,
        (pair, name): (usize, &str),
        role: R,
        copies: usize,
        how: &Opening,
        wanted: &Wanted<'_>,
    ) -> Result<()> {
        let (ends, sources) = lab.ends(pair)?;
        let driven =
            roles::driven(lab, ends, role, copies).context("no handoff queues for a worker")?;
        let forwarder = Box::new(driven);
        let mut system = SystemUnderTest { name: name.to_owned(), forwarder, sources };
        system.open(how, wanted.connections)?;
        self.systems.push(system);
        let verdicts = how.gone.map(|verdict| vec![verdict]);
        let connections = wanted.connections;
        self.case(name.to_owned(), both_ways(&how.going, connections), verdicts.clone());
        let programs = from_l3(lab, &how.going, connections);
        self.case(format!("{name}, from L3"), programs, verdicts.clone());
        if wanted.directions {
            let way = |side: Side| one_way(&how.going, connections, side);
            self.case(format!("{name}, from inside"), way(Side::Inside), verdicts.clone());
            self.case(format!("{name}, from outside"), way(Side::Outside), verdicts);
        }
        Ok(())
    }

    fn gateway<G: Mode>(
        &mut self,
        lab: &mut Lab,
        pair: usize,
        name: &str,
        role: pipeline::role::gateway::Gateway<G>,
        wanted: &Wanted<'_>,
    ) -> Result<()> {
        self.role(lab, (pair, name), role, 1, &frames::gateway::<G>(), wanted)?;
        if G::CONFIGURATION == Configuration::A {
            let unknown = [
                ("unknown TCP", frames::unknown_tcp(), Verdict::NoEntry),
                ("UDP", frames::unknown_udp(), Verdict::OtherProtocol),
            ];
            for (what, templates, verdict) in unknown {
                let programs = both_ways(&templates, wanted.connections);
                self.case(format!("{name}, {what}"), programs, [vec![verdict], vec![verdict]]);
            }
        }
        Ok(())
    }

    fn replica(
        &mut self,
        lab: &mut Lab,
        pair: usize,
        name: &str,
        code: Configuration,
        wanted: &Wanted<'_>,
    ) -> Result<()> {
        let role = roles::replica(wanted.table());
        self.role(lab, (pair, name), role, 1, &frames::replica(code), wanted)
    }
}
