//! Compares the memory that a configuration takes with what this machine has.

use pipeline::wire::family::Version;

use super::{Config, Role};

/// Bytes of a connection in a table (docs/scaling.md, table 2): its entry, and its part of a bucket.
const GATEWAY_OR_REPLICA: [u64; 2] = [77, 141];
const SWITCH: [u64; 2] = [77, 77];
/// Bytes of a packet buffer beside its frame: headroom and DPDK's structure.
const BUFFER_HEADER: u64 = 256;

/// The memory that a configuration takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    tables: u64,
    buffers: u64,
    /// Whether the buffers are in huge pages.
    is_huge: bool,
}

/// The memory of a machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    total: u64,
    available: u64,
    /// All reserved huge pages, and those that are free.
    huge: u64,
    huge_free: u64,
}

/// What the comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Why the tables cannot be allocated.
    pub refused: Option<String>,
    /// Why they may not be.
    pub warned: Vec<String>,
}

impl Needs {
    pub(super) fn of(config: &Config) -> Self {
        let bytes = match config.role {
            Role::Switch(_) => SWITCH,
            Role::Gateway(_) | Role::Replica(_) => GATEWAY_OR_REPLICA,
        };
        let table = &config.table;
        let connections = [table.max_connections, table.max_connections_v6];
        let tables = [Version::V4, Version::V6].into_iter().filter(|v| has_table(&config.role, *v));
        let tables = tables.map(|v| u64::from(connections[v as usize]) * bytes[v as usize]).sum();
        let memory = &config.memory;
        let buffers = u64::from(memory.mbufs) * (u64::from(memory.max_frame) + BUFFER_HEADER);
        let is_huge = !config.eal.args.iter().any(|argument| argument == "--no-huge");
        Self { tables, buffers, is_huge }
    }
}

/// Returns whether a role has a table of connections of a family.
fn has_table(role: &Role, version: Version) -> bool {
    let is = |address| Version::of(address) == version;
    match role {
        Role::Gateway(own) => own.services.iter().any(|service| service.address.is_of(version)),
        Role::Switch(own) => own.services.iter().any(|service| is(service.address)),
        Role::Replica(own) => own.services.iter().any(|service| is(service.address)),
    }
}

impl Machine {
    /// Returns this machine's memory; `None` if the kernel does not tell.
    pub(super) fn this() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let page = field("Hugepagesize").unwrap_or(0) << 10;
        Some(Self {
            total: field("MemTotal")? << 10,
            available: field("MemAvailable")? << 10,
            huge: field("HugePages_Total").unwrap_or(0) * page,
            huge_free: field("HugePages_Free").unwrap_or(0) * page,
        })
    }
}

/// Compares what is needed with what there is.
pub(super) fn judge(needs: Needs, machine: Machine) -> Judgement {
    let Needs { tables, buffers, is_huge } = needs;
    let ordinary = tables + if is_huge { 0 } else { buffers };
    let room = machine.total.saturating_sub(machine.huge);
    let mut judgement = Judgement::default();
    let what = format!("the tables take {}", shown(tables));
    let what = match is_huge {
        true => what,
        false => format!("{what}, the packet buffers {}", shown(buffers)),
    };
    if ordinary > room {
        let beside = match machine.huge {
            0 => String::new(),
            huge => format!(" beside {} of huge pages", shown(huge)),
        };
        judgement.refused = Some(format!(
            "{what}, and this machine has {}{beside}; expected as many connections as fit",
            shown(room)
        ));
    } else if ordinary > machine.available {
        judgement.warned.push(format!("{what}, and only {} are free", shown(machine.available)));
    }
    if is_huge && buffers > machine.huge_free {
        judgement.warned.push(format!(
            "the packet buffers take {} of huge pages, and {} are free: sysctl vm.nr_hugepages",
            shown(buffers),
            shown(machine.huge_free)
        ));
    }
    judgement
}

fn shown(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_machine_is_read_from_the_kernels_table() {
        let text = "MemTotal:        8000000 kB\nMemFree: 1 kB\nMemAvailable:    6000000 kB\n\
                    HugePages_Total:     512\nHugePages_Free:      256\nHugepagesize:       2048 kB\n";
        let machine = Machine {
            total: 8_000_000 << 10,
            available: 6_000_000 << 10,
            huge: GIB,
            huge_free: GIB / 2,
        };
        assert_eq!(Machine::parse(text), Some(machine));
        assert_eq!(Machine::parse("MemTotal: many kB"), None);
        assert!(Machine::this().is_some());
    }

    #[test]
    fn tables_beyond_the_machine_are_refused_and_tight_ones_warned_of() {
        let machine = Machine { total: 8 * GIB, available: 4 * GIB, huge: GIB, huge_free: GIB / 2 };
        let needs = |tables, buffers, is_huge| Needs { tables, buffers, is_huge };
        let judge = |needs| super::judge(needs, machine);
        assert_eq!(judge(needs(GIB, GIB / 4, true)), Judgement::default());
        let refused = judge(needs(7 * GIB + 1, 0, true)).refused.unwrap();
        assert_eq!(
            refused,
            "the tables take 7168 MiB, and this machine has 7168 MiB beside 1024 MiB of huge \
             pages; expected as many connections as fit"
        );
        assert!(judge(needs(6 * GIB, 2 * GIB, false)).refused.is_some());
        let tight = judge(needs(5 * GIB, GIB, true));
        assert_eq!((tight.refused, tight.warned.len()), (None, 2));
    }
}
