//! What memory in small pages costs, and the commands that give huge ones.

use std::path::Path;

use super::Config;
use super::memory::Needs;

/// Bytes of a huge page of the usual size.
const HUGE: u64 = 2 << 20;
/// The bytes of tables below which their pages do not matter: the CPU has translations for so many
/// small ones.
const SMALL_TABLES: u64 = 8 << 20;
/// The kernel's file that says who may have transparent huge pages.
const TRANSPARENT: &str = "kernel/mm/transparent_hugepage/enabled";

/// Returns what the operator should know of the pages that buffers and tables will be in. `sys` is where
/// the kernel shows its settings.
pub(super) fn warnings(config: &Config, sys: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.eal.uses_huge_pages() {
        // DPDK takes a page more for what it keeps beside the buffers.
        let pages = Needs::huge(config).div_ceil(HUGE) + 1;
        warnings.push(format!(
            "eal.args: with --no-huge the packet buffers are in pages of 4 KiB, which costs about 11 ns \
             a packet, half the rate of a NIC at 1,000 connections; for speed leave it out, and: sysctl \
             vm.nr_hugepages={pages} && mount -t hugetlbfs none /dev/hugepages"
        ));
    }
    let setting = std::fs::read_to_string(sys.join(TRANSPARENT)).unwrap_or_default();
    if setting.contains("[never]") && config.table_bytes().is_some_and(|b| b > SMALL_TABLES) {
        warnings.push(format!(
            "the kernel gives no transparent huge pages, so tables are in pages of 4 KiB, with which a \
             packet takes up to a third longer at a million connections: echo madvise > \
             /sys/{TRANSPARENT}"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &str, connections: u32) -> Config {
        let text = format!(
            "role = \"gateway\"\nport.inside.device = \"net_null0\"\nport.outside.device = \
             \"net_null1\"\neal.args = [{args}]\ntable.max_connections = {connections}\n\
             [[gateway.service]]\naddress = \"203.0.113.10\"\nallowed_replicas = [\"any\"]\n"
        );
        Config::parse("f.toml", &text).unwrap()
    }

    #[test]
    fn small_pages_of_buffers_are_told_with_their_cost_and_the_command() {
        let sys = Path::new("/nonexistent");
        assert_eq!(warnings(&config("", 1 << 20), sys), [""; 0]);
        let said = warnings(&config("\"--no-huge\", \"-m\", \"192\"", 1 << 20), sys);
        assert_eq!(said.len(), 1);
        // 16,384 buffers of 2,368 bytes are 37 MiB.
        for part in ["11 ns a packet", "half the rate", "vm.nr_hugepages=21 && mount"] {
            assert!(said[0].contains(part), "{said:?}");
        }
    }

    #[test]
    fn small_pages_of_large_tables_are_told() {
        let sys = tempfile::tempdir().unwrap();
        let file = sys.path().join(TRANSPARENT);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let said = |setting: &str, connections| {
            std::fs::write(&file, setting).unwrap();
            warnings(&config("", connections), sys.path())
        };
        assert!(
            said("always madvise [never]\n", 1 << 20)[0].contains("echo madvise > /sys/kernel")
        );
        assert_eq!(said("always madvise [never]\n", 1 << 16), [""; 0]);
        assert_eq!(said("always [madvise] never\n", 1 << 20), [""; 0]);
    }
}
