//! firstack at every site of a [`Topology`]: configurations written, processes started in their
//! namespaces, asked for counters, and ended one way or the other.
//!
//! All that a process leaves (control socket, DPDK's runtime files, its log) lies in the
//! laboratory's directory and goes with it, however the process ends.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use appliance::control::{self, Answer, Command};
use appliance::stats::Snapshot;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::lab::{Lab, LabError, Namespace, Output, Place, Result, Site, Topology};

/// Time that a process has until it forwards.
const START: Duration = Duration::from_secs(20);
/// Time that it has to end after SIGTERM.
const END: Duration = Duration::from_secs(10);
/// Frames that the kernel holds for a port, each way: bursts of a fast replica are larger
/// than the driver's default of 512.
const FRAMES: u32 = 2048;

/// What may differ from one fleet to another.
#[derive(Debug, Clone, Default)]
pub struct FleetOptions {
    /// Workers of the gateway; none stands for one.
    pub gateway_workers: usize,
    /// Every address is a service, not the origin's alone.
    pub any_service: bool,
    /// Live connections from which on replica 1, 2, ... is busy; firstack's default otherwise.
    pub max_connections: Vec<Option<u32>>,
    /// Where `firstack` is, if not beside this program and not named in `FIRSTACK`.
    pub binary: Option<PathBuf>,
}

/// The gateway, the switch and the replicas' appliances of one topology.
#[derive(Debug)]
pub struct Fleet {
    appliances: Vec<Appliance>,
}

impl Fleet {
    /// Starts one process at every site and waits until all of them forward.
    pub fn start(lab: &Lab, topology: &Topology, options: &FleetOptions) -> Result<Self> {
        let binary = match &options.binary {
            Some(path) => path.clone(),
            None => find_firstack()?,
        };
        let cpus = allowed_cpus();
        let replicas: Vec<_> = topology.replicas().iter().map(|place| place.site).collect();
        let mut appliances = Vec::new();
        for (number, place) in topology.places().iter().enumerate() {
            // The gateway and the nearest replica, which carry the load, on CPUs of their own.
            let first = [0, 1, 1, 0][number % 4];
            let workers = if number == 0 { options.gateway_workers.max(1) } else { 1 };
            let cores = (0..workers).map(|worker| cpus[(first + worker) % cpus.len()]);
            let text = match place.site {
                Site::Client => gateway(options.any_service),
                Site::Origin => switch(&replicas),
                Site::Replica(number) => {
                    let most = options.max_connections.get(number - 1).copied().flatten();
                    replica(place.site, most)
                }
            };
            let common = common(lab, place.site, &cores.collect::<Vec<_>>());
            let namespace = place.appliance.clone().ok_or_else(|| {
                LabError::Topology("a direct topology has no place for appliances".into())
            })?;
            let role = role(place.site);
            let text = format!("role = \"{role}\"\n{common}{text}");
            appliances.push(Appliance::new(lab, place, namespace, &binary, &text)?);
        }
        // All at once: each takes a moment to start.
        for appliance in &mut appliances {
            appliance.launch(lab)?;
        }
        for appliance in &mut appliances {
            appliance.wait_until_forwarding()?;
        }
        Ok(Self { appliances })
    }

    /// The clients' gateway.
    #[must_use]
    pub fn gateway(&self) -> &Appliance {
        &self.appliances[0]
    }

    /// The origin's switch.
    #[must_use]
    pub fn switch(&self) -> &Appliance {
        &self.appliances[1]
    }

    /// The appliance of a replica, counted from 1.
    #[must_use]
    pub fn replica(&self, number: usize) -> &Appliance {
        &self.appliances[1 + number]
    }

    /// The same, to kill or start it.
    pub fn replica_mut(&mut self, number: usize) -> &mut Appliance {
        &mut self.appliances[1 + number]
    }

    /// All of them: gateway, switch, replica 1, 2, ...
    #[must_use]
    pub fn all(&self) -> &[Appliance] {
        &self.appliances
    }

    /// Waits until no counter moves any more and every packet is accounted for, at most so
    /// long; gives the counters, in the order of [`Fleet::all`], whether that came to be or not.
    pub fn settle(&self, limit: Duration) -> Result<Vec<Snapshot>> {
        let start = Instant::now();
        let mut last = self.stats()?;
        loop {
            std::thread::sleep(Duration::from_millis(250));
            let now = self.stats()?;
            let still = now == last && now.iter().all(Snapshot::is_conserved);
            if still || start.elapsed() >= limit {
                return Ok(now);
            }
            last = now;
        }
    }

    /// The counters of all, in the order of [`Fleet::all`].
    pub fn stats(&self) -> Result<Vec<Snapshot>> {
        self.appliances.iter().map(Appliance::stats).collect()
    }

    /// Ends all of them by SIGTERM; what each one left.
    pub fn stop(self) -> Result<Vec<Ended>> {
        self.appliances.into_iter().map(Appliance::stop).collect()
    }
}

/// How a process of firstack ended.
#[derive(Debug)]
pub struct Ended {
    /// "gateway", "switch", "replica1" ...
    pub name: String,
    /// How; an error when packet buffers are missing, among others.
    pub status: ExitStatus,
    /// Its final counters.
    pub snapshot: Snapshot,
    /// What it logged.
    pub log: String,
}

/// One process of firstack.
#[derive(Debug)]
pub struct Appliance {
    name: String,
    namespace: Namespace,
    binary: PathBuf,
    directory: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    process: Option<crate::lab::Process>,
}

impl Appliance {
    fn new(
        lab: &Lab,
        place: &Place,
        namespace: Namespace,
        binary: &Path,
        text: &str,
    ) -> Result<Self> {
        let name = name(place.site);
        let config = lab.directory().join(format!("{name}.toml"));
        std::fs::write(&config, text)
            .map_err(|source| LabError::File { path: config.clone(), source })?;
        Ok(Self {
            socket: socket(lab, place.site),
            directory: lab.directory().to_path_buf(),
            binary: binary.to_path_buf(),
            process: None,
            name,
            namespace,
            config,
        })
    }

    /// "gateway", "switch", "replica1" ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts it, again after [`Appliance::kill`], and waits until it forwards.
    pub fn start(&mut self, lab: &Lab) -> Result<()> {
        self.launch(lab)?;
        self.wait_until_forwarding()
    }

    fn launch(&mut self, lab: &Lab) -> Result<()> {
        let runtime = format!("RUNTIME_DIRECTORY={}", self.directory.display());
        let (binary, config) = (self.binary.to_string_lossy(), self.config.to_string_lossy());
        let words = ["env", &runtime, &*binary, "run", "--json", "-c", &*config];
        self.process = Some(lab.spawn(&self.namespace, &words)?);
        Ok(())
    }

    fn wait_until_forwarding(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.wait_for("forwarding", START),
            None => Err(self.not_running()),
        }
    }

    fn not_running(&self) -> LabError {
        LabError::EndedEarly {
            command: format!("firstack run -c {}", self.config.display()),
            stderr: "not running".into(),
        }
    }

    /// Its counters now.
    pub fn stats(&self) -> Result<Snapshot> {
        match self.ask(Command::Stats)? {
            Answer::Stats(snapshot) => Ok(*snapshot),
            answer => Err(self.unreadable("stats", &format!("{answer:?}"))),
        }
    }

    /// Drains a replica, or makes it busy by order, or takes that back.
    pub fn gate(&self, command: Command) -> Result<()> {
        match self.ask(command)? {
            Answer::Done(_) => Ok(()),
            answer => Err(self.unreadable("gate", &format!("{answer:?}"))),
        }
    }

    fn ask(&self, command: Command) -> Result<Answer> {
        let what = format!("{command:?}");
        control::ask(&self.socket, command)
            .map_err(|error| self.unreadable(&what, &error.to_string()))
    }

    fn unreadable(&self, what: &str, output: &str) -> LabError {
        let command = format!("firstack {what} --socket {}", self.socket.display());
        LabError::Unreadable { command, output: output.into() }
    }

    /// Runs a subcommand of firstack that takes this process's control socket.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        let (binary, socket) = (self.binary.to_string_lossy(), self.socket.to_string_lossy());
        crate::lab::run(&[&[&*binary], words, &["--socket", &*socket]].concat())
    }

    /// Replays captures through its configuration with `--explain`; gives what that printed.
    pub fn explain(&self, inside: &Path, outside: &Path, out: &Path) -> Result<String> {
        let paths = [&self.binary, &self.config, inside, outside, out].map(Path::to_string_lossy);
        let [binary, config, inside, outside, out] = paths;
        let words = [&*binary, "replay", "--explain", "-c", &*config, "--inside", &*inside];
        let more = ["--outside", &*outside, "--out", &*out];
        Ok(crate::lab::run(&[&words[..], &more].concat())?.stdout)
    }

    /// Kills it outright (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.signal(Signal::SIGKILL);
                process.wait(END).map(drop)
            }
            None => Err(self.not_running()),
        }
    }

    /// Ends it by SIGTERM.
    pub fn stop(mut self) -> Result<Ended> {
        let Some(mut process) = self.process.take() else { return Err(self.not_running()) };
        process.signal(Signal::SIGTERM);
        let status = process.wait(END)?;
        let (stdout, log) = (process.stdout(), process.stderr());
        let snapshot = serde_json::from_str(stdout.trim())
            .map_err(|error| self.unreadable("run --json", &format!("{error}: {stdout}{log}")))?;
        Ok(Ended { name: self.name, status, snapshot, log })
    }
}

/// Looks for `firstack`: `FIRSTACK`, beside this program, or (tests) one level up.
fn find_firstack() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FIRSTACK") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().unwrap_or_default();
    let mut above = own.ancestors().skip(1).take(2).map(|directory| directory.join("firstack"));
    above.find(|path| path.is_file()).ok_or_else(|| {
        let beside = own.display();
        let how = "build it (cargo build -p appliance), or name it in FIRSTACK";
        LabError::Topology(format!("cannot find firstack beside {beside}: {how}"))
    })
}

/// CPUs that this process may use; never empty.
fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    let cpus: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn role(site: Site) -> &'static str {
    match site {
        Site::Client => "gateway",
        Site::Origin => "switch",
        Site::Replica(_) => "replica",
    }
}

fn name(site: Site) -> String {
    match site {
        Site::Replica(_) => site.name(),
        _ => role(site).into(),
    }
}

fn socket(lab: &Lab, site: Site) -> PathBuf {
    lab.directory().join(format!("{}.sock", name(site)))
}

/// The sections that all roles have.
fn common(lab: &Lab, site: Site, cores: &[usize]) -> String {
    let name = name(site);
    let prefix = lab.directory().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let socket = socket(lab, site);
    format!(
        r#"
[eal]
file_prefix = "{prefix}-{name}"
args = ["--no-huge", "-m", "96"]

[port.inside]
device = "net_af_packet0,iface=inside,framecnt={FRAMES}"

[port.outside]
device = "net_af_packet1,iface=outside,framecnt={FRAMES}"

[worker]
cores = {cores:?}
poll = "adaptive"

[memory]
mbufs = 8192

[control]
socket = "{}"
"#,
        socket.display()
    )
}

fn gateway(any: bool) -> String {
    let service = if any { "any".into() } else { Site::Origin.address().to_string() };
    format!("\n[[gateway.service]]\nname = \"web\"\naddress = \"{service}\"\nports = [80]\n")
}

fn switch(replicas: &[Site]) -> String {
    let service = Site::Origin.address();
    let replicas = replicas.iter().map(|site| {
        let address = site.address();
        format!("\n[[switch.service.replica]]\nname = \"{site}\"\naddress = \"{address}\"\n")
    });
    format!(
        "\n[[switch.service]]\nname = \"web\"\naddress = \"{service}\"\nports = [80]\n{}\
         \n[[switch.service.server]]\nname = \"origin\"\n",
        replicas.collect::<String>()
    )
}

fn replica(site: Site, max_connections: Option<u32>) -> String {
    let (service, address) = (Site::Origin.address(), site.address());
    let limit = max_connections.map(|most| format!("max_connections = {most}\n"));
    format!(
        "\n[replica]\nname = \"{site}\"\nswitches = [\"{service}\"]\n{}\
         \n[[replica.service]]\nname = \"web\"\naddress = \"{service}\"\nports = [80]\n\
         \n[[replica.service.server]]\nname = \"{site}\"\naddress = \"{address}\"\n",
        limit.unwrap_or_default()
    )
}
