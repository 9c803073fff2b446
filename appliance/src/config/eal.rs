//! `[eal]`: what the operator may set of DPDK's environment abstraction layer (EAL) in addition to
//! what firstack sets.

use toml::de::DeValue;

use super::reader::{Found, Section};
use super::section::section;
use super::value::{self, Parsed};

section! {
    /// The operator's settings of the EAL.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Eal from EalKeys in "eal" {
        /// The prefix of the process's DPDK files; differs between the processes of a host.
        file_prefix: String = Words(
            "1 to 64 letters, digits or characters of . _ -, a letter or digit first"
        ), Value(r#""firstack-<role>""#), by |section, name| section.found(name, file_prefix);
        /// Further EAL arguments, as on a command line, such as `--no-huge`. None of them is one
        /// that firstack sets itself.
        args: Vec<String> = Words("a list of strings"), Value("[]"), by arguments;
    }
}

const CORES: &str = "worker.cores sets";
const DEVICES: &str = "the devices of the ports set";

/// Long options that firstack sets from other keys, or that would prevent it from starting.
const LONG: [(&str, &str); 14] = [
    ("--lcores", CORES),
    ("--coremask", CORES),
    ("--corelist", CORES),
    ("--main-lcore", CORES),
    ("--master-lcore", CORES),
    ("--service-corelist", CORES),
    ("--service-coremask", CORES),
    ("--vdev", DEVICES),
    ("--allow", DEVICES),
    ("--block", DEVICES),
    ("--pci-whitelist", DEVICES),
    ("--pci-blacklist", DEVICES),
    ("--file-prefix", "eal.file_prefix sets"),
    ("--proc-type", "firstack sets itself"),
];

/// Short options of the same kind; `-l0-3` is an option with its value.
const SHORT: [(&str, &str); 7] = [
    ("-l", CORES),
    ("-c", CORES),
    ("-s", CORES),
    ("-S", CORES),
    ("-a", DEVICES),
    ("-w", DEVICES),
    ("-b", DEVICES),
];

/// The memory in MiB that DPDK takes with `--no-huge` if it is not told (EAL's
/// `MEMSIZE_IF_NO_HUGE_PAGE`).
const NO_HUGE_MIB: u64 = 64;

impl Eal {
    fn has(&self, option: &str) -> bool {
        self.args.iter().any(|argument| argument == option)
    }

    /// Returns whether DPDK's memory is in huge pages.
    pub fn uses_huge_pages(&self) -> bool {
        !self.has("--no-huge")
    }

    /// Returns whether huge pages come from a mounted file system, where others can open them.
    pub fn uses_huge_files(&self) -> bool {
        self.uses_huge_pages() && !self.has("--in-memory")
    }

    /// Returns the directory of huge pages that the arguments name.
    pub fn huge_directory(&self) -> Option<&str> {
        self.value("--huge-dir").filter(|directory| !directory.is_empty())
    }

    /// Returns whether DPDK keeps files under its prefix, by which it finds out whether another
    /// process has the same.
    pub fn keeps_files(&self) -> bool {
        !["--in-memory", "--no-shconf"].iter().any(|option| self.has(option))
    }

    /// Returns the value of an option: in the same argument, or the next.
    fn value(&self, option: &str) -> Option<&str> {
        self.args.iter().enumerate().rev().find_map(|(i, argument)| {
            match argument.strip_prefix(option)? {
                "" => self.args.get(i + 1).map(String::as_str),
                rest if option.starts_with("--") => rest.strip_prefix('='),
                rest => Some(rest),
            }
        })
    }

    /// Returns the MiB that DPDK has for all its memory; `None` if it takes more when it needs it, as
    /// it does with huge pages.
    pub fn fixed_memory_mib(&self) -> Option<u64> {
        let fixed = !self.uses_huge_pages() || self.has("--legacy-mem");
        let by_socket = || {
            let list = self.value("--socket-mem")?;
            list.split(',').map(|mib| mib.parse::<u64>().ok()).sum()
        };
        let told = self.value("-m").and_then(|mib| mib.parse().ok()).or_else(by_socket);
        told.or((!self.uses_huge_pages()).then_some(NO_HUGE_MIB)).filter(|_| fixed)
    }
}

/// Reads `[eal]`. `uses_pci` is whether a port is a PCI device.
pub(super) fn read(root: &Section<'_>, uses_pci: bool) -> Option<Eal> {
    let section = root.section("eal");
    let keys = EalKeys::read(&section);
    check_together(&section, &keys.args.as_ref()?.value, uses_pci);
    keys.build()
}

fn arguments(section: &Section<'_>, name: &str) -> Option<Found<Vec<String>>> {
    section.list(name, "an EAL argument that nothing else sets", argument)
}

/// Parses the prefix. The EAL refuses `%` and `/`, and the prefix becomes part of file names.
fn file_prefix(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.len() {
        65.. => Err("is too long".to_owned()),
        _ if !text.chars().all(fits) => Err("has other characters".to_owned()),
        _ if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
            Err("begins otherwise".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

fn argument(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    let option = text.split_once('=').map_or(text, |(option, _)| option);
    let owned = if option.starts_with("--") {
        // The EAL accepts any unambiguous prefix of a long option.
        LONG.iter().find(|(owned, _)| option.len() > 2 && owned.starts_with(option))
    } else {
        SHORT.iter().find(|(owned, _)| option.starts_with(owned))
    };
    match owned {
        Some((option, why)) => Err(format!("is {option}, which {why}")),
        None if text == "--" => Err("ends the EAL arguments".to_owned()),
        None if matches!(text, "-h" | "--help" | "--log-level=help") => {
            Err("makes EAL print its help and end".to_owned())
        }
        None => Ok(text.to_owned()),
    }
}

/// Notes arguments that are valid alone but not together, or not with these devices.
fn check_together(section: &Section<'_>, args: &[String], uses_pci: bool) {
    let find = |option: &str| args.iter().position(|arg| arg == option);
    if let (Some(no_huge), Some(in_memory)) = (find("--no-huge"), find("--in-memory")) {
        let later = no_huge.max(in_memory);
        let message = "EAL refuses --no-huge together with --in-memory; expected one of them";
        section.error(
            section.entry_at("args", later),
            &format!("args[{later}]"),
            message.to_owned(),
        );
    }
    if let Some(no_pci) = find("--no-pci").filter(|_| uses_pci) {
        let message = "--no-pci disables the PCI device of a port; expected it only when \
                       both ports are virtual devices";
        section.error(
            section.entry_at("args", no_pci),
            &format!("args[{no_pci}]"),
            message.to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eal(args: &[&str]) -> Eal {
        let args = args.iter().map(|&argument| argument.to_owned()).collect();
        Eal { file_prefix: "p".to_owned(), args }
    }

    #[test]
    fn what_dpdk_is_given_is_read_from_its_arguments() {
        for (args, mib) in [
            (&["--no-huge"][..], Some(64)),
            (&["--no-huge", "-m", "192"], Some(192)),
            (&["-m96", "--no-huge"], Some(96)),
            (&["--no-huge", "-m", "96", "-m", "128"], Some(128)),
            (&["--legacy-mem", "--socket-mem", "512,512"], Some(1024)),
            (&["--legacy-mem", "--socket-mem=512,1"], Some(513)),
            // It takes more when it needs it.
            (&["-m", "64"], None),
            (&["--socket-mem", "1024"], None),
            (&["--legacy-mem"], None),
            (&[], None),
        ] {
            assert_eq!(eal(args).fixed_memory_mib(), mib, "{args:?}");
        }
        assert!(eal(&[]).uses_huge_files() && !eal(&["--in-memory"]).uses_huge_files());
        assert_eq!(eal(&["--huge-dir", "/mnt/huge"]).huge_directory(), Some("/mnt/huge"));
        assert_eq!(eal(&["--huge-dir=/x"]).huge_directory(), Some("/x"));
    }
}
