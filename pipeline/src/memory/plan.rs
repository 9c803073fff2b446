//! Whom a worker asks: what the memory publishes for one service and family.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::base::time::Ticks;
use crate::wire::copies::CopiesWanted;
use crate::wire::family::Version;
use crate::wire::tunnel::Format;

/// The most sites that are remembered for a service and family. A race notes the ones that it asked
/// in as many bits.
pub const SITES: usize = 32;
/// The most sites that are asked directly in one race.
pub const DIRECT: usize = 8;

/// Why the switch is asked for as many copies as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Why {
    /// No replica is remembered that answers directly: the race of the patent.
    #[default]
    NothingRemembered,
    /// Replicas have answered directly lately: only explorers are asked for.
    Fresh,
    /// The turn of a race that asks for all copies, to find new replicas.
    Exploration,
    /// The origin won the last races, although a replica should have.
    OriginLately,
    /// The SYN was repeated.
    Repetition,
    /// The path to the server is assumed to drop tagged SYNs: the SYN was sent without a tag.
    Untagged,
}

impl Why {
    /// Returns a reason as the end of a sentence, for operators.
    pub fn text(self) -> &'static str {
        match self {
            Self::NothingRemembered => "no replica is remembered that answers directly",
            Self::Fresh => "replicas have answered directly lately",
            Self::Exploration => "it is this race's turn to explore",
            Self::OriginLately => "the origin won the last races although a replica should have",
            Self::Repetition => "the client repeated its SYN",
            Self::Untagged => "the path to the server is assumed to drop tagged SYNs",
        }
    }
}

/// A site that can be asked directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address R that is asked: that of the web server that answered last.
    pub address: IpAddr,
    /// The format of tunnels to it.
    pub format: Format,
    /// Its smoothed direct time plus its handicap; `None` before its first direct answer.
    pub rank: Option<Ticks>,
    /// Its handicap.
    pub handicap: Ticks,
}

/// Whom to ask in the races of one service and family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The sites' prefixes, by number; only those in `used` count.
    pub(super) keys: [u128; SITES],
    /// Which numbers are used, one bit each.
    pub(super) used: u32,
    pub(super) candidates: ArrayVec<Option<Candidate>, SITES>,
    /// The numbers of the sites to ask, the best first.
    pub best: ArrayVec<u8, DIRECT>,
    /// The number of a site to try.
    pub trial: Option<u8>,
    /// One race in so many has the trial in it.
    pub trial_every: u32,
    /// One race in so many asks the switch for all copies.
    pub explore_every: u32,
    /// The copies that the switch is asked for in all other races.
    pub copies: CopiesWanted,
    /// Why.
    pub why: Why,
    /// The origin's smoothed time.
    pub origin: Option<Ticks>,
    /// The origin is nearest: only explorations are raced.
    pub origin_is_nearest: bool,
    /// There are sites that are distrusted: their answers wait for others.
    pub has_distrusted: bool,
}

impl Plan {
    /// Returns the plan while nothing is remembered.
    pub fn empty() -> Self {
        Self { trial_every: 1, explore_every: 1, ..Self::default() }
    }

    /// Returns the number of the site with this prefix.
    #[inline]
    pub fn number_of(&self, site: u128) -> Option<u8> {
        self.number_among(u32::MAX, site)
    }

    /// Returns the number of the site with this prefix if it is one of these, one bit each: to look
    /// among the few that were asked takes less than to look among all.
    #[inline]
    pub fn number_among(&self, sites: u32, site: u128) -> Option<u8> {
        numbers(self.used & sites).find(|number| self.keys[usize::from(*number)] == site)
    }

    /// Returns a site by number.
    #[inline]
    pub fn candidate(&self, number: u8) -> Option<&Candidate> {
        self.candidates.get(usize::from(number))?.as_ref()
    }

    /// Returns the sites of these numbers, one bit each.
    #[inline]
    pub fn asked(&self, sites: u32) -> impl Iterator<Item = (u8, &Candidate)> {
        numbers(self.used & sites).filter_map(|number| Some((number, self.candidate(number)?)))
    }

    /// Asks no site directly. Sites keep their numbers, since races may be under way.
    pub(super) fn ask_nobody(&mut self) {
        self.best.clear();
        self.trial = None;
    }

    /// Adds a site, and returns its number; `None` when the plan is full. For tests that make plans
    /// without a memory.
    pub fn push(&mut self, site: u128, candidate: Candidate) -> Option<u8> {
        let number = self.candidates.len();
        self.candidates.try_push(Some(candidate)).ok()?;
        self.keys[number] = site;
        self.used |= 1 << number;
        Some(number as u8)
    }
}

/// Returns the numbers of the bits that are set, the lowest first.
#[inline]
fn numbers(mut bits: u32) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let number = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (number < u32::BITS).then_some(number as u8)
    })
}

/// The plans of all services, by the number of the service.
#[derive(Clone, Debug, Default)]
pub struct Plans(pub(super) Vec<[Arc<Plan>; 2]>);

impl Plans {
    /// Returns plans of services with nothing remembered.
    pub fn empty(services: usize) -> Self {
        let plan = Arc::new(Plan::empty());
        Self((0..services).map(|_| [Arc::clone(&plan), Arc::clone(&plan)]).collect())
    }

    /// Returns the plan of a service for one family.
    #[inline]
    pub fn of(&self, service: u16, version: Version) -> Option<&Plan> {
        self.0.get(usize::from(service)).map(|plans| &*plans[version as usize])
    }

    /// Replaces a plan.
    pub fn set(&mut self, service: u16, version: Version, plan: Plan) {
        if let Some(plans) = self.0.get_mut(usize::from(service)) {
            plans[version as usize] = Arc::new(plan);
        }
    }
}
