//! What is looked at before DPDK starts, because DPDK's own errors name no key: capabilities, huge
//! pages, memory, its file prefix, and whether another process has the interfaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use pipeline::packet::view::Side;

use crate::config::{ARGS_KEY, Bus, Config, DEVICE_KEYS, Device, PREFIX_KEY, TABLE_KEY};
use crate::dpdk;
use crate::sys::capabilities::{Capabilities, Capability};
use crate::sys::claim::{Claim, Held};
use crate::sys::{interface, memory};

/// The interval at which a successor asks for what its predecessor still has.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);

/// Why a process cannot start here, and the key to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The key.
    pub key: &'static str,
    /// What is wrong, what is expected, and the command that helps.
    pub message: String,
    /// Whether it may go away by itself: another process has what is needed.
    pub passes: bool,
}

impl Obstacle {
    fn new(key: &'static str, message: String) -> Self {
        Self { key, message, passes: false }
    }

    fn held(key: &'static str, message: String) -> Self {
        Self { key, message, passes: true }
    }
}

/// Why a process cannot start here: at least one obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacles(Vec<Obstacle>);

impl Obstacles {
    /// Returns the obstacles.
    pub fn iter(&self) -> std::slice::Iter<'_, Obstacle> {
        self.0.iter()
    }

    /// Returns whether all may go away by themselves, so that another attempt makes sense.
    pub fn pass(&self) -> bool {
        self.0.iter().all(|obstacle| obstacle.passes)
    }
}

impl std::fmt::Display for Obstacles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, Obstacle { key, message, .. }) in self.0.iter().enumerate() {
            write!(f, "{}{key}: {message}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Obstacles {}

/// The interval at which what another process has is asked for again.
const RETRY: Duration = Duration::from_millis(20);

/// Looks at all that DPDK will need under this file prefix, and claims the interfaces and devices. What
/// another process has, it may be about to let go of: that is waited for, for `patience`. With
/// `from_predecessor` it still has them, and hands over later.
///
/// # Errors
/// All that is missing or taken.
pub fn pass(
    config: &Config,
    file_prefix: &str,
    from_predecessor: bool,
    patience: Duration,
) -> Result<Claims, Obstacles> {
    let start = Instant::now();
    loop {
        let claims = examine(config, file_prefix, from_predecessor)
            .and_then(|()| Claims::take(config, from_predecessor));
        match claims {
            Err(obstacles) if obstacles.pass() && start.elapsed() < patience => {
                std::thread::sleep(RETRY);
            }
            claims => return claims,
        }
    }
}

fn examine(config: &Config, file_prefix: &str, from_predecessor: bool) -> Result<(), Obstacles> {
    let mut found = Vec::new();
    for (side, device) in devices(config) {
        let lacks = Capabilities::own().lacks(needed(device));
        if !lacks.is_empty() {
            let key = DEVICE_KEYS[side as usize];
            found.push(Obstacle::new(key, no_capability(device, &lacks)));
        }
    }
    if !from_predecessor {
        let in_use = config.devices_in_use();
        found.extend(in_use.into_iter().map(|(key, message)| Obstacle::held(key, message)));
    }
    if config.eal.uses_huge_pages() {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let pages = huge_pages(Path::new("/sys/kernel/mm/hugepages"));
        let directory = config.eal.huge_directory();
        let message = no_huge_pages(pages, &mounts, directory, config.eal.uses_huge_files());
        found.extend(message.map(|message| Obstacle::new(ARGS_KEY, message)));
    }
    if let Some(bytes) = config.table_bytes().filter(|bytes| !memory::can_map(*bytes)) {
        let message = format!(
            "the kernel refuses {} MiB for the tables; expected fewer connections, or more memory \
             (ulimit -v, sysctl vm.overcommit_memory)",
            bytes >> 20
        );
        found.push(Obstacle::new(TABLE_KEY, message));
    }
    if config.eal.keeps_files() {
        found.extend(prefix_in_use(&runtime_directory(), file_prefix));
    }
    if found.is_empty() { Ok(()) } else { Err(Obstacles(found)) }
}

fn devices(config: &Config) -> [(Side, &Device); 2] {
    let ports = &config.ports;
    [(Side::Inside, &ports.inside.device), (Side::Outside, &ports.outside.device)]
}

/// Returns the capabilities without which a device cannot be opened.
fn needed(device: &Device) -> &'static [Capability] {
    use Capability::{NetAdmin, NetRaw};
    match device.bus {
        Bus::Virtual { driver: "net_af_packet" | "net_af_xdp" } => &[NetRaw, NetAdmin],
        Bus::Virtual { driver: "net_pcap" } if device.argument("iface").is_some() => &[NetRaw],
        Bus::Virtual { driver: "net_tap" } => &[NetAdmin],
        _ => &[],
    }
}

fn no_capability(device: &Device, lacks: &[Capability]) -> String {
    let names: Vec<_> = lacks.iter().map(|capability| capability.name()).collect();
    let names = names.join(" ");
    format!(
        "{} needs {names}, which this process lacks; expected root, or a unit with \
         AmbientCapabilities={names}",
        device.name
    )
}

/// Returns how many huge pages of all sizes are reserved.
fn huge_pages(directory: &Path) -> u64 {
    let sizes = fs::read_dir(directory).into_iter().flatten().flatten();
    let count = |size: fs::DirEntry| {
        let text = fs::read_to_string(size.path().join("nr_hugepages")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    sizes.filter_map(count).sum()
}

/// Returns what is missing of huge pages, if anything.
fn no_huge_pages(
    pages: u64,
    mounts: &str,
    directory: Option<&str>,
    needs_files: bool,
) -> Option<String> {
    const OR_NOT: &str = "or args = [\"--no-huge\", \"-m\", \"192\"] to do without, more slowly";
    let is_mounted = mounts.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (place, kind) = (words.next(), words.next());
        kind == Some("hugetlbfs") && (directory.is_none() || place == directory)
    });
    if pages == 0 {
        let mount = match is_mounted || !needs_files {
            true => "",
            false => " && mount -t hugetlbfs none /dev/hugepages",
        };
        return Some(format!(
            "no huge pages are reserved; expected some: sysctl vm.nr_hugepages=1024{mount}; {OR_NOT}"
        ));
    }
    (needs_files && !is_mounted).then(|| {
        let place = directory.unwrap_or("/dev/hugepages");
        format!(
            "no file system of huge pages is mounted at {place}; expected one: mount -t hugetlbfs \
             none {place}; {OR_NOT}"
        )
    })
}

/// Returns the directory below which DPDK keeps its files (`eal_create_runtime_dir`).
fn runtime_directory() -> PathBuf {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = || match nix::unistd::getuid().is_root() {
        true => PathBuf::from("/var/run"),
        false => of("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/tmp")),
    };
    of("RUNTIME_DIRECTORY").unwrap_or_else(of_user).join("dpdk")
}

/// Finds a living process with this prefix: DPDK locks a file.
fn prefix_in_use(runtime: &Path, prefix: &str) -> Option<Obstacle> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(runtime.join(prefix).join("config"))
        .ok()?;
    let process = locked_by(&file).ok()??;
    let message = format!(
        "process {process} runs DPDK with the prefix {prefix}; expected one of its own for each \
         process of this host, such as \"{prefix}-2\""
    );
    Some(Obstacle::held(PREFIX_KEY, message))
}

/// Returns the process that has locked a part of a file.
fn locked_by(file: &fs::File) -> io::Result<Option<i32>> {
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != nix::libc::F_UNLCK as nix::libc::c_short).then_some(lock.l_pid))
}

/// The interfaces and devices that this process has, so that no other takes them.
#[derive(Debug, Default)]
pub struct Claims {
    held: Vec<Claim>,
    /// Those that the predecessor still has.
    pending: Vec<String>,
    /// When they were last asked for.
    asked: Option<Instant>,
}

impl Claims {
    /// Claims the interfaces and devices of both ports. With `from_predecessor`, those that another
    /// process has are no obstacle: it is about to let go of them, and [`Claims::step`] takes them.
    ///
    /// # Errors
    /// If another firstack has one.
    pub fn take(config: &Config, from_predecessor: bool) -> Result<Self, Obstacles> {
        let mut claims = Self::default();
        let mut refused = Vec::new();
        for (side, device) in devices(config) {
            let (Some(name), key) = (claimed(device), DEVICE_KEYS[side as usize]) else { continue };
            match Claim::take(&name) {
                Ok(claim) => claims.held.push(claim),
                Err(_) if from_predecessor => claims.pending.push(name),
                Err(held) => refused.push(Obstacle::held(key, in_use(device, held))),
            }
        }
        if refused.is_empty() { Ok(claims) } else { Err(Obstacles(refused)) }
    }

    /// Claims what the predecessor has let go of.
    pub fn step(&mut self) {
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < CLAIM_INTERVAL);
        if self.pending.is_empty() || is_early {
            return;
        }
        self.asked = Some(Instant::now());
        let held = &mut self.held;
        self.pending.retain(|name| Claim::take(name).map(|claim| held.push(claim)).is_err());
    }
}

/// Returns the name under which a device is claimed; `None` if several processes may have it.
fn claimed(device: &Device) -> Option<String> {
    if device.is_pci() {
        return Some(format!("pci/{}", device.name));
    }
    let names = ["iface", "rx_iface", "rx_iface_in"];
    let existing = names.iter().find_map(|name| device.argument(name));
    let number = existing.and_then(interface::number)?;
    Some(format!("interface/{number}"))
}

fn in_use(device: &Device, held: Held) -> String {
    let whose = match held.process {
        Some(process) => format!("firstack, process {process}"),
        None => "another firstack".to_owned(),
    };
    let what = device.argument("iface").unwrap_or(&device.name);
    format!(
        "{whose}, has {what} already, and both would forward every frame; expected a device of its \
         own, or the end of that process"
    )
}

/// Returns what to say of DPDK's refusal to start, with the key that is most likely wrong.
pub fn explain(error: dpdk::Error) -> super::Error {
    use super::Error;
    let key = match &error {
        dpdk::Error::Init { .. } => ARGS_KEY,
        dpdk::Error::Pool { .. } => crate::config::MBUFS_KEY,
        _ => return Error::Dpdk(error),
    };
    let expected = match &error {
        dpdk::Error::Init { .. } => {
            "expected arguments that EAL accepts; its own lines above say which it does not"
        }
        _ => {
            "expected fewer, or more memory for DPDK: -m in eal.args with --no-huge, else sysctl \
             vm.nr_hugepages"
        }
    };
    Error::Refused(Obstacles(vec![Obstacle::new(key, format!("{error}; {expected}"))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(inside: &str, rest: &str) -> Config {
        let text = format!(
            "role = \"gateway\"\nport.inside.device = \"{inside}\"\nport.outside.device = \
             \"net_null1\"\n{rest}[[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n"
        );
        Config::parse("f.toml", &text).unwrap()
    }

    #[test]
    fn what_a_device_needs_is_named() {
        let needs = |text: &str| {
            let config = config(text, "");
            needed(&config.ports.inside.device).to_vec()
        };
        assert_eq!(needs("net_af_packet0,iface=x"), [Capability::NetRaw, Capability::NetAdmin]);
        assert_eq!(needs("net_tap0"), [Capability::NetAdmin]);
        assert_eq!(needs("net_pcap0,rx_pcap=a,tx_pcap=b"), []);
        assert_eq!(needs("net_pcap0,iface=x"), [Capability::NetRaw]);
        let config = config("net_af_packet0,iface=x", "");
        let said = no_capability(&config.ports.inside.device, &[Capability::NetRaw]);
        assert!(said.contains("CAP_NET_RAW") && said.contains("AmbientCapabilities"), "{said}");
    }

    #[test]
    fn missing_huge_pages_are_named_with_the_commands() {
        let mounted = "none /dev/hugepages hugetlbfs rw 0 0\n";
        let none = no_huge_pages(0, "", None, true).unwrap();
        assert!(none.contains("sysctl vm.nr_hugepages=1024 && mount -t hugetlbfs"), "{none}");
        assert!(none.contains("--no-huge"), "{none}");
        assert!(!no_huge_pages(0, mounted, None, true).unwrap().contains("mount"));
        let unmounted = no_huge_pages(8, "proc /proc proc rw 0 0", None, true).unwrap();
        assert!(unmounted.contains("mount -t hugetlbfs none /dev/hugepages"), "{unmounted}");
        assert_eq!(no_huge_pages(8, mounted, None, true), None);
        assert_eq!(no_huge_pages(8, "", None, false), None);
        let elsewhere = no_huge_pages(8, mounted, Some("/mnt/huge"), true).unwrap();
        assert!(elsewhere.contains("none /mnt/huge"), "{elsewhere}");
        let root = tempfile::tempdir().unwrap();
        assert_eq!(huge_pages(root.path()), 0);
        for (size, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "1\n")] {
            fs::create_dir(root.path().join(size)).unwrap();
            fs::write(root.path().join(size).join("nr_hugepages"), count).unwrap();
        }
        assert_eq!(huge_pages(root.path()), 4);
    }

    #[test]
    fn a_prefix_is_in_use_while_its_file_is_locked() {
        let root = tempfile::tempdir().unwrap();
        let found = || prefix_in_use(root.path(), "mine");
        assert_eq!(found(), None);
        fs::create_dir(root.path().join("mine")).unwrap();
        let path = root.path().join("mine/config");
        fs::write(&path, [0; 64]).unwrap();
        assert_eq!(found(), None);
        // A process does not see its own locks, so another one holds it.
        let path = path.to_string_lossy().into_owned();
        let program = "import fcntl, sys\nf = open(sys.argv[1], 'r+')\n\
                       fcntl.lockf(f, fcntl.LOCK_EX, 8, 16)\nprint(flush=True)\nsys.stdin.read()";
        let mut other = std::process::Command::new("python3")
            .args(["-c", program, &path])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = other.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
        let said = found().unwrap();
        drop(other.stdin.take());
        let number = other.id();
        other.wait().unwrap();
        assert_eq!((said.key, said.passes), (PREFIX_KEY, true));
        let expected = format!("process {number} runs DPDK with the prefix mine; ");
        assert!(said.message.starts_with(&expected) && said.message.contains("\"mine-2\""));
        assert_eq!(found(), None);
    }

    #[test]
    fn an_interface_has_one_process_and_its_successor() {
        let config = config("net_af_packet0,iface=lo", "");
        let first = Claims::take(&config, false).unwrap();
        let said = Claims::take(&config, false).unwrap_err();
        assert!(said.pass());
        let text = said.to_string();
        let own = std::process::id();
        assert!(
            text.starts_with(&format!(
                "port.inside.device: firstack, process {own}, has lo already"
            )),
            "{text}"
        );
        let mut successor = Claims::take(&config, true).unwrap();
        successor.step();
        assert!((successor.held.len(), successor.pending.len()) == (0, 1));
        drop(first);
        successor.asked = None;
        successor.step();
        assert!((successor.held.len(), successor.pending.len()) == (1, 0));
        assert!(Claims::take(&config, false).is_err());
    }
}
