//! Compares the memory that a configuration takes with what this machine has.

use std::path::{Path, PathBuf};

use pipeline::table;
use pipeline::wire::family::Version;

use super::present::{DIRECTORY_KEY, MBUFS_KEY, TABLE_KEY};
use super::{Config, Role};
use crate::sys::kept_memory::{Room, Unfit};

/// Bytes of an entry (docs/scaling.md, table 2), by family.
const ENTRY_OF_GATEWAY_OR_REPLICA: [usize; 2] = [64, 128];
const ENTRY_OF_SWITCH: [usize; 2] = [64, 64];
/// Bytes of a packet buffer beside its frame: headroom, DPDK's structure, and its place in the pool.
const BUFFER_HEADER: u64 = 256 + 64;
/// Bytes of DPDK's own memory that the buffers cannot have.
const OVERHEAD: u64 = 2 << 20;
/// Bytes of an ordinary page. Without huge pages a buffer lies within one if it fits.
const PAGE: u64 = 4096;

/// The memory that a configuration takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) tables: u64,
    buffers: u64,
    /// Whether the buffers are in huge pages.
    is_huge: bool,
    /// The memory that EAL's arguments give to DPDK, if that is all it gets.
    given: Option<u64>,
    /// The number of buffers.
    mbufs: u32,
}

/// The memory of a machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    total: u64,
    available: u64,
    /// All reserved huge pages, and those that are free.
    huge: u64,
    huge_free: u64,
    /// The least limit on this process's memory, by a control group or `ulimit -v`.
    limit: Option<u64>,
}

/// What the comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Why the tables or buffers cannot be allocated, with the key to change.
    pub refused: Vec<(&'static str, String)>,
    /// Why they may not be.
    pub warned: Vec<String>,
}

impl Needs {
    /// Returns the bytes of huge pages that the buffers of a configuration would take, with DPDK's own
    /// memory.
    pub(super) fn huge(config: &Config) -> u64 {
        buffers(config.memory.mbufs, config.memory.max_frame, true) + OVERHEAD
    }

    pub(super) fn of(config: &Config) -> Self {
        let [entries, buckets] = bytes_of(config);
        let tables = entries + buckets;
        let memory = &config.memory;
        let is_huge = config.eal.uses_huge_pages();
        let buffers = buffers(memory.mbufs, memory.max_frame, is_huge);
        let given = config.eal.fixed_memory_mib().map(|mib| mib << 20);
        Self { tables, buffers, is_huge, given, mbufs: memory.mbufs }
    }
}

/// Returns the bytes that buffers for frames of this length take.
fn buffers(count: u32, max_frame: u16, is_huge: bool) -> u64 {
    let (count, each) =
        (u64::from(count), (u64::from(max_frame) + BUFFER_HEADER).next_multiple_of(64));
    match PAGE / each {
        in_page @ 1.. if !is_huge => count.div_ceil(in_page) * PAGE,
        _ => count * each,
    }
}

/// Returns the bytes of all tables: of the entries, which may outlive the process, and of what is
/// derived from them.
fn bytes_of(config: &Config) -> [u64; 2] {
    let connections = [config.table.max_connections, config.table.max_connections_v6];
    let entry = match config.role {
        Role::Switch(_) => ENTRY_OF_SWITCH,
        Role::Gateway(_) | Role::Replica(_) => ENTRY_OF_GATEWAY_OR_REPLICA,
    };
    let mut sum = [0; 2];
    for version in [Version::V4, Version::V6].into_iter().filter(|v| has_table(&config.role, *v)) {
        let capacity = connections[version as usize] as usize;
        let bytes = table::bytes_for(capacity, entry[version as usize]);
        sum.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes as u64);
    }
    sum
}

/// Judges the directory of the tables that outlive the process. While a process takes tables over, its
/// own and the old ones are there.
pub(super) fn judge_directory(config: &Config, room: Result<Room, Unfit>) -> Judgement {
    let [bytes, _] = bytes_of(config);
    let mut judgement = Judgement::default();
    match room {
        Err(unfit) => {
            let message = format!(
                "{unfit}; expected a directory on a tmpfs (mount -t tmpfs -o \
                 huge=always,mode=0700 tmpfs DIRECTORY), or table.keep = false, with which \
                 connections end with the process"
            );
            judgement.refused.push((DIRECTORY_KEY, message));
        }
        Ok(Room { total, .. }) if total < 2 * bytes => {
            let message = format!(
                "the tables take {}, twice that while the next process takes them over, and the \
                 tmpfs has {}; expected one that is larger (mount -o remount,size=...), fewer \
                 connections, or table.keep = false",
                shown(bytes),
                shown(total)
            );
            judgement.refused.push((DIRECTORY_KEY, message));
        }
        Ok(Room { free, .. }) if free < bytes => judgement.warned.push(format!(
            "table.directory: the tables take {}, and only {} of the tmpfs are free",
            shown(bytes),
            shown(free)
        )),
        Ok(_) => {}
    }
    judgement
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
        let machine = Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = [group_limit(Path::new("/sys/fs/cgroup"), &groups), address_space_limit()];
        Some(Self { limit: limits.into_iter().flatten().min(), ..machine })
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
            limit: None,
        })
    }
}

/// Returns the least memory limit of a process's control groups, by the text of its `cgroup` file.
/// `root` is where version 2 is mounted.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut directory: PathBuf = root.join(own);
    let mut least = None;
    while directory.starts_with(root) {
        let limit = std::fs::read_to_string(directory.join("memory.max")).ok();
        let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
        least = [least, limit].into_iter().flatten().min();
        if !directory.pop() {
            break;
        }
    }
    least
}

/// Returns the limit on this process's address space; `None` if there is none.
fn address_space_limit() -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_AS).ok()?;
    (limit != RLIM_INFINITY).then_some(limit)
}

/// Compares what is needed with what there is.
pub(super) fn judge(needs: Needs, machine: Machine) -> Judgement {
    let Needs { tables, buffers, is_huge, given, mbufs } = needs;
    let ordinary = tables + if is_huge { 0 } else { buffers };
    let of_machine = machine.total.saturating_sub(machine.huge);
    let room = machine.limit.map_or(of_machine, |limit| limit.min(of_machine));
    let mut judgement = Judgement::default();
    let what = format!("the tables take {}", shown(tables));
    let what = match is_huge {
        true => what,
        false => format!("{what}, the packet buffers {}", shown(buffers)),
    };
    if ordinary > room {
        let whose = if room < of_machine { "this process may have" } else { "this machine has" };
        let beside = match machine.huge {
            0 => String::new(),
            huge => format!(" beside {} of huge pages", shown(huge)),
        };
        let message = format!(
            "{what}, and {whose} {}{beside}; expected as many connections as fit",
            shown(room)
        );
        judgement.refused.push((TABLE_KEY, message));
    } else if ordinary > machine.available {
        judgement.warned.push(format!("{what}, and only {} are free", shown(machine.available)));
    }
    if let Some(given) = given.filter(|given| buffers + OVERHEAD > *given) {
        let fit = given.saturating_sub(OVERHEAD) / (buffers / u64::from(mbufs.max(1))).max(1);
        judgement.refused.push((
            MBUFS_KEY,
            format!(
                "{mbufs} buffers take {}, and eal.args gives DPDK {}; expected at most {fit}, or \
                 -m {} there",
                shown(buffers),
                shown(given),
                (buffers + OVERHEAD).next_multiple_of(16 << 20) >> 20
            ),
        ));
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
            limit: None,
        };
        assert_eq!(Machine::parse(text), Some(machine));
        assert_eq!(Machine::parse("MemTotal: many kB"), None);
        assert!(Machine::this().is_some());
    }

    #[test]
    fn kept_tables_need_a_tmpfs_with_room_for_them_twice() {
        let text = "role = \"gateway\"\nport.inside.device = \"net_null0\"\n\
                    port.outside.device = \"net_null1\"\ntable.max_connections = 1048576\n\
                    [[gateway.service]]\naddress = \"203.0.113.10\"\n\
                    allowed_replicas = [\"198.51.100.0/24\"]\n";
        let config = Config::parse("f.toml", text).unwrap();
        let judge = |total: u64, free: u64| {
            judge_directory(&config, Ok(Room { total: total << 20, free: free << 20 }))
        };
        assert_eq!(judge(153, 77), Judgement::default());
        assert_eq!(judge(153, 76).warned.len(), 1);
        let refused = judge(152, 152).refused;
        assert!(refused[0].1.starts_with("the tables take 76 MiB, twice that"), "{refused:?}");
        let disk = judge_directory(&config, Err(Unfit::NotMemory("/var".into())));
        assert!(disk.refused[0].1.starts_with("/var is not on a tmpfs; expected"));
    }

    #[test]
    fn tables_beyond_the_machine_are_refused_and_tight_ones_warned_of() {
        let (huge, huge_free) = (GIB, GIB / 2);
        let machine = Machine { total: 8 * GIB, available: 4 * GIB, huge, huge_free, limit: None };
        let needs =
            |tables, buffers, is_huge| Needs { tables, buffers, is_huge, ..Needs::default() };
        let judge = |needs| super::judge(needs, machine);
        assert_eq!(judge(needs(GIB, GIB / 4, true)), Judgement::default());
        let refused = judge(needs(7 * GIB + 1, 0, true)).refused;
        let expected = "the tables take 7168 MiB, and this machine has 7168 MiB beside 1024 MiB of \
                        huge pages; expected as many connections as fit";
        assert_eq!(refused, [(TABLE_KEY, expected.to_owned())]);
        assert!(!judge(needs(6 * GIB, 2 * GIB, false)).refused.is_empty());
        let tight = judge(needs(5 * GIB, GIB, true));
        assert_eq!((tight.refused.len(), tight.warned.len()), (0, 2));
        // A container has less.
        let limited = Machine { limit: Some(2 * GIB), ..machine };
        let refused = super::judge(needs(3 * GIB, 0, true), limited).refused;
        assert!(refused[0].1.contains("this process may have 2048 MiB"), "{refused:?}");
    }

    #[test]
    fn buffers_beyond_what_dpdk_is_given_are_refused() {
        let machine = Machine { total: 8 * GIB, available: 8 * GIB, ..Machine::default() };
        let (packed, buffers) = (buffers(16384, 2048, true), buffers(16384, 2048, false));
        assert_eq!((packed, buffers), (16384 * 2368, 64 << 20));
        assert_eq!(super::buffers(8192, 1518, false), 16 << 20, "two in a page");
        assert_eq!(super::buffers(10, 9728, false), 10 * 10048);
        let needs =
            |mib: u64| Needs { buffers, given: Some(mib << 20), mbufs: 16384, ..Needs::default() };
        let refused = judge(needs(16), machine).refused;
        let expected = "16384 buffers take 64 MiB, and eal.args gives DPDK 16 MiB; expected at most \
                        3584, or -m 80 there";
        assert_eq!(refused, [(MBUFS_KEY, expected.to_owned())]);
        // Measured: 65 are too few, and 66 enough.
        assert!(!judge(needs(65), machine).refused.is_empty());
        assert!(judge(needs(66), machine).refused.is_empty());
    }

    #[test]
    fn the_least_limit_of_the_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("a/b");
        std::fs::create_dir_all(&own).unwrap();
        let limit = || group_limit(root.path(), "1:cpu:/x\n0::/a/b\n");
        assert_eq!(limit(), None);
        std::fs::write(own.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "4096\n").unwrap();
        assert_eq!(limit(), Some(4096));
        std::fs::write(own.join("memory.max"), "1024\n").unwrap();
        assert_eq!(limit(), Some(1024));
        assert_eq!(group_limit(root.path(), ""), None);
    }
}
