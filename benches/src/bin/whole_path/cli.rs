//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::cases::Wanted;

/// Measure whole paths from port to port on one core, over DPDK's net_null devices.
///
/// A source of negligible cost, whatever the number of connections, stamps frames with valid
/// headers and checksums into the buffers that the devices hand out, scattered over all
/// connections. Bare loops (io, macswap, 5tswap) and the appliance's roles, each in a real worker,
/// forward bursts of 32 in both directions between two ports. Connections are opened through the
/// pipeline first. All systems of one number of connections are measured in turn, for several
/// rounds. Figures are medians, ratios are to the io loop of the same round. The run fails unless
/// the roles' counters show the expected verdict for every packet and every packet buffer is back
/// at the end.
///
/// A single direction is measured with the other port silent. The time of that port's empty polls,
/// taken from the io loop measured in the same way, is subtracted.
///
/// Figures are those of one pinned thread. Nothing else should run meanwhile. DPDK's dpdk-testpmd,
/// with which the bare loops are compared on plain net_null, runs on the same CPU in turn with
/// them.
#[derive(Debug, Parser)]
#[command(name = "whole_path", version)]
pub struct Options {
    /// Parts to run, in this order; all by default.
    #[arg(value_enum)]
    pub parts: Vec<Part>,
    /// Numbers of connections, such as 1,1k,64k,1M,8M (k is 1,000 and M is 1,000,000).
    #[arg(long, value_delimiter = ',', default_value = "1,1k,64k,1M,8M", value_parser = count)]
    pub connections: Vec<u32>,
    /// Open connections beside races; the last number also applies to the flood.
    #[arg(long, value_delimiter = ',', default_value = "1k,1M", value_parser = count)]
    pub live: Vec<u32>,
    /// Open connections of two workers.
    #[arg(long, value_delimiter = ',', default_value = "64k,1M", value_parser = count)]
    pub scale: Vec<u32>,
    /// Systems whose names begin with one of these, beside io: "gateway A", switch, ...
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Measure each direction separately, too.
    #[arg(long)]
    pub directions: bool,
    /// Rounds over all systems.
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Milliseconds of a slice.
    #[arg(long, default_value_t = 80)]
    pub slice: u64,
    /// Milliseconds of warm-up before each slice.
    #[arg(long, default_value_t = 10)]
    pub warm_up: u64,
    /// The CPU to run on; the last one by default.
    #[arg(long)]
    pub cpu: Option<u32>,
    /// Compare with another build of this program, slice by slice in turn: paths and races only,
    /// which are what there is before and after.
    #[arg(long)]
    pub pair: Option<PathBuf>,
    /// Measure slices as another build asks for them.
    #[arg(long, hide = true, conflicts_with = "pair")]
    pub turns: bool,
    /// Write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// The dpdk-testpmd to compare with.
    #[arg(long, default_value = "dpdk-testpmd")]
    pub testpmd: PathBuf,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Bare loops on plain net_null against dpdk-testpmd.
    Testpmd,
    /// Packets of open connections, by system and number of connections.
    Paths,
    /// Whole races, with other connections open.
    Races,
    /// A flood of spoofed SYNs beside open connections, none of which may be lost.
    ///
    /// The core is saturated with and without it, so time spent on the flood is lost to open
    /// connections. The figures are the cost of their packets alone and beside the flood (the run
    /// fails below 70 %), their rate when every second packet is a SYN of the flood, and the rest
    /// of their throughput when the flood fills a line of 1 or 10 Gbit/s.
    Flood,
    /// Two workers against one, with all packets arriving at the worker that owns them, half of
    /// them, and none. The others are handed over.
    Scale,
}

impl Options {
    /// Returns the parts to run.
    pub fn parts(&self) -> Vec<Part> {
        let parts = match self.parts.is_empty() {
            true => Part::value_variants().to_vec(),
            false => self.parts.clone(),
        };
        let in_turns = |part: &Part| matches!(part, Part::Paths | Part::Races);
        let pair = self.turns || self.pair.is_some();
        parts.into_iter().filter(|part| !pair || in_turns(part)).collect()
    }

    /// Returns what is wanted at each of these numbers of connections.
    pub fn wanted_of<'a>(&'a self, connections: &'a [u32]) -> impl Iterator<Item = Wanted<'a>> {
        let (only, directions) = (&self.only[..], self.directions);
        connections.iter().map(move |&connections| Wanted { connections, only, directions })
    }

    /// Returns the arguments of a build that takes turns with this one. It measures the same
    /// systems, for the same time and on this CPU.
    pub fn for_turns(&self, cpu: u32) -> Vec<String> {
        let numbers =
            |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let names = self.parts().into_iter().filter_map(|part| part.to_possible_value());
        let mut arguments: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        add("connections", numbers(&self.connections));
        add("live", numbers(&self.live));
        add("cpu", cpu.to_string());
        add("slice", self.slice.to_string());
        add("warm-up", self.warm_up.to_string());
        if !self.only.is_empty() {
            add("only", self.only.join(","));
        }
        if self.directions {
            arguments.push("--directions".to_owned());
        }
        arguments
    }
}

/// Parses a number, optionally followed by `k` or `M`.
fn count(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (text, 1),
    };
    let wrong = || format!("{text} is no number of connections from 1 to 100M");
    let number: u32 = digits.replace('_', "").parse().map_err(|_| wrong())?;
    let number = number.checked_mul(unit).ok_or_else(wrong)?;
    if (1..=100_000_000).contains(&number) { Ok(number) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Options, Part, count};

    #[test]
    fn a_pair_measures_the_same_in_both_builds() {
        let given = "whole_path races scale --only=switch,gateway --live=1k --cpu=1 --pair=other";
        let own = Options::parse_from(given.split(' '));
        assert_eq!(own.parts(), [Part::Races]);
        let arguments = own.for_turns(1);
        let other = Options::parse_from(
            ["whole_path".to_owned(), "--turns".to_owned()].into_iter().chain(arguments),
        );
        assert!(other.turns);
        assert_eq!(other.parts(), own.parts());
        assert_eq!((other.only, other.live, other.cpu), (own.only, own.live, own.cpu));
        assert_eq!((other.slice, other.warm_up), (own.slice, own.warm_up));
        assert_eq!(other.connections, own.connections);
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!([count("1"), count("64k"), count("8M")], [Ok(1), Ok(64_000), Ok(8_000_000)]);
        for wrong in ["", "k", "0", "-1", "200M", "5000M", "x"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
