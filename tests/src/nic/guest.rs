//! A guest under QEMU's TCG with two cards, inside and outside.
//!
//! The guest runs `init` of its initramfs, which `scripts/nic-guest` makes: it mounts the shared
//! directory, says that it is up, and runs the scripts that it finds there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{Datagrams, Packets, Wire};
use super::{Answer, Binding, Card, Machine, Result, Row, Trial, Trouble, monitor};
use crate::demo::client::within;
use crate::lab::{Lab, LabError, Namespace, Process};
use crate::scenario::Side;

/// The time for a boot. It takes 9 s on a quiet machine.
const BOOTS: Duration = Duration::from_secs(180);
/// How often a guest is booted before that is an error.
const BOOTS_AT_MOST: usize = 3;
/// The interval at which the shared directory is looked at.
const LOOKS: Duration = Duration::from_millis(20);
/// Virtual CPUs. With more than the machine has, guests stall.
const CPUS: usize = 2;
/// Where the guest mounts the shared directory.
const SHARED: &str = "/share";
/// What the guest says once it runs scripts.
const UP: &str = "GUEST UP";
/// What the guest's kernel says when its timer stood still.
const STALL: &str = "detected stalls";
/// What it says before it ends by itself.
const PANIC: &str = "Kernel panic";
/// MTU of a guest's tap: for the longest frames and their tags.
const TAP_MTU: &str = "9700";

/// What a guest is booted from, as `scripts/nic-guest` lays it out in a directory.
#[derive(Clone, Debug)]
pub struct Assets {
    directory: PathBuf,
    /// The words that start QEMU.
    qemu: Vec<String>,
}

impl Assets {
    /// Reads a directory.
    ///
    /// # Errors
    /// What is missing, and the command that makes it.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let missing = |name: &str| {
            let directory = directory.display();
            format!(
                "{directory}/{name} is missing: make it as root, by scripts/nic-guest {directory}"
            )
        };
        let qemu = fs::read_to_string(directory.join("qemu")).map_err(|_| missing("qemu"))?;
        let qemu = qemu.split_whitespace().map(str::to_owned).collect();
        for name in ["vmlinuz", "initrd"] {
            fs::metadata(directory.join(name)).map_err(|_| missing(name))?;
        }
        let directory = directory.canonicalize().map_err(|error| error.to_string())?;
        Ok(Self { directory, qemu })
    }

    /// Returns QEMU's version.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn version(&self) -> Result<String> {
        let words: Vec<_> = self.qemu.iter().cloned().chain(["--version".into()]).collect();
        let said = crate::lab::run(&words)?.stdout;
        Ok(said.lines().next().unwrap_or_default().replace("QEMU emulator version ", "QEMU "))
    }
}

/// A running guest; dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    // Ends before the laboratory.
    qemu: Process,
    share: PathBuf,
    serial: PathBuf,
    monitor: PathBuf,
    namespace: Namespace,
    jobs: usize,
    /// How long the boot took.
    pub booted: Duration,
    _lab: Lab,
}

impl Guest {
    /// Boots a guest with two cards, and opens the wires to them.
    ///
    /// # Errors
    /// [`Trouble::Silent`] if it does not come up.
    pub fn boot(assets: &Assets, card: &Card) -> Result<(Self, Box<dyn Wire>)> {
        let lab = Lab::new("nic")?;
        let namespace = lab.namespace("q")?;
        let directory = lab.directory().to_owned();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| LabError::File { path, source }
        };
        let share = directory.join("share");
        for part in ["in", "out"] {
            let path = share.join(part);
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        let wire: Box<dyn Wire> = if card.backend_queues > 1 {
            Side::ALL.into_iter().try_for_each(|side| add_tap(&namespace, side))?;
            let names = Side::ALL.map(tap);
            let open = || Packets::open(names.each_ref().map(String::as_str));
            Box::new(within(&namespace, open)?.map_err(at(Path::new("/dev/net/tun")))?)
        } else {
            Box::new(Datagrams::new(&directory).map_err(at(&directory))?)
        };
        let start = Instant::now();
        let qemu = lab.spawn(&namespace, &words(assets, card, &directory))?;
        let [serial, monitor] = ["serial", "monitor"].map(|name| directory.join(name));
        let mut guest = Self {
            qemu,
            share,
            serial,
            monitor,
            namespace,
            jobs: 0,
            booted: Duration::ZERO,
            _lab: lab,
        };
        while !guest.said().contains(UP) {
            if !guest.qemu.is_running() {
                let (qemu, guest) = (guest.qemu.stderr(), guest.last_words());
                // Its kernel panics when the host gives it no time for a timer.
                return Err(match guest.contains(PANIC) {
                    true => Trouble::Silent(guest),
                    false => Trouble::Failed(format!("QEMU ended: {qemu} {guest}")),
                });
            }
            if start.elapsed() > BOOTS {
                return Err(Trouble::Silent(format!("it does not boot: {}", guest.last_words())));
            }
            std::thread::sleep(LOOKS);
        }
        guest.booted = start.elapsed();
        guest.bind(card.binding)?;
        Ok((guest, wire))
    }

    /// Runs every case on a card. A guest that does not answer is booted again, twice at most.
    ///
    /// # Errors
    /// If no guest answers to the end.
    pub fn try_card(
        assets: &Assets,
        card: &Card,
        binary: &Path,
        mut report: impl FnMut(&Row),
    ) -> Result<Vec<Row>> {
        let mut boots = 0;
        loop {
            boots += 1;
            let rows = Self::boot(assets, card).and_then(|(mut guest, mut wire)| {
                let seen =
                    format!("{} in {:.1} s", card.binding.module(), guest.booted.as_secs_f64());
                let row = Row { card: card.name.to_owned(), case: "boot", seen: Ok(seen) };
                report(&row);
                let mut rows = vec![row];
                let trial = Trial::of_card(card, binary);
                rows.extend(trial.run(&mut guest, &mut *wire, &mut report)?);
                Ok(rows)
            });
            match rows {
                Err(Trouble::Silent(what)) if boots < BOOTS_AT_MOST => {
                    let seen = format!("the guest does not answer, booting again: {what}");
                    eprintln!("{}: {seen}", card.name);
                }
                rows => return rows,
            }
        }
    }

    /// Returns the PCI addresses of the cards, inside and outside.
    #[must_use]
    pub fn devices() -> [String; 2] {
        ["0000:01:00.0".to_owned(), "0000:02:00.0".to_owned()]
    }

    /// Binds both cards to the driver that DPDK uses.
    fn bind(&mut self, binding: Binding) -> Result<()> {
        let module = binding.module();
        let further = if binding == Binding::VfioPci { "modprobe vfio_iommu_type1 &&" } else { "" };
        let devices = Self::devices().join(" ");
        let script = format!(
            "modprobe {module} && {further} for d in {devices}; do\n\
               at=/sys/bus/pci/devices/$d\n\
               echo {module} > $at/driver_override\n\
               [ -e $at/driver ] && echo $d > $at/driver/unbind\n\
               echo $d > /sys/bus/pci/drivers_probe\n\
               [ \"$(basename $(readlink $at/driver))\" = {module} ] || exit 1\n\
             done"
        );
        let answer = self.shell(&script, super::PATIENCE)?;
        match answer.code {
            0 => Ok(()),
            _ => Err(format!("cannot bind to {module}: {}", answer.text).into()),
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// Returns the end of what the guest said.
    fn last_words(&self) -> String {
        let said = self.said();
        let from = said.find(PANIC).unwrap_or_default();
        let lines: Vec<_> = match from {
            0 => said.lines().rev().take(3).collect(),
            from => said[from..].lines().take(1).collect(),
        };
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Machine for Guest {
    fn shell(&mut self, script: &str, limit: Duration) -> Result<Answer> {
        self.jobs += 1;
        let file = |folder: &str, name: String| self.share.join(folder).join(name);
        let hidden = file("in", format!(".{}", self.jobs));
        let at = |source| LabError::File { path: self.share.clone(), source };
        fs::write(&hidden, script).map_err(at)?;
        // The guest never sees half a script.
        fs::rename(&hidden, file("in", format!("{}.sh", self.jobs))).map_err(at)?;
        let (done, log) = (file("out", format!("{}.rc", self.jobs)), format!("{}.log", self.jobs));
        let start = Instant::now();
        loop {
            let code = fs::read_to_string(&done).unwrap_or_default();
            if let Ok(code) = code.trim().parse() {
                let text = fs::read(file("out", log)).unwrap_or_default();
                return Ok(Answer { code, text: String::from_utf8_lossy(&text).into_owned() });
            }
            if start.elapsed() > limit {
                let script = script.lines().next().unwrap_or_default();
                return Err(Trouble::Silent(format!("{script}: {}", self.last_words())));
            }
            std::thread::sleep(LOOKS);
        }
    }

    fn share(&self) -> &Path {
        &self.share
    }

    fn shared(&self) -> &Path {
        Path::new(SHARED)
    }

    fn set_link(&mut self, side: Side, up: bool) -> Result<()> {
        let command = format!("set_link {} {}", backend(side), if up { "on" } else { "off" });
        match monitor::command(&self.monitor, &command) {
            Ok(said) if said.contains("not found") => Err(said.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Silent(format!("QEMU's monitor: {error}"))),
        }
    }

    fn has_stalled(&self) -> bool {
        self.said().contains(STALL)
    }
}

impl std::fmt::Display for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: booted in {:.1} s", self.namespace.name(), self.booted.as_secs_f64())
    }
}

fn backend(side: Side) -> &'static str {
    ["n0", "n1"][side as usize]
}

fn tap(side: Side) -> String {
    format!("tap-{}", side.name())
}

/// Makes a tap with several queues, which says nothing of its own.
fn add_tap(namespace: &Namespace, side: Side) -> Result<()> {
    let name = tap(side);
    namespace.run(&["ip", "tuntap", "add", "dev", &name, "mode", "tap", "multi_queue"])?;
    namespace.run(&["ip", "link", "set", "dev", &name, "mtu", TAP_MTU, "up"])?;
    Ok(())
}

/// Returns the command line.
fn words(assets: &Assets, card: &Card, directory: &Path) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let asset = |name: &str| assets.directory.join(name).display().to_string();
    let iommu = card.binding == Binding::VfioPci;
    // Without the check of the timer, which fails on a machine that is busy.
    let mut append = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off \
                      default_hugepagesz=2M hugepages=320"
        .to_owned();
    let mut words = assets.qemu.clone();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if iommu {
        append += " intel_iommu=on";
        add("-machine", "q35,kernel-irqchip=split".into());
        add("-device", "intel-iommu,intremap=on,caching-mode=on".into());
    } else {
        add("-machine", "q35".into());
    }
    add("-accel", "tcg,thread=multi".into());
    add("-cpu", "max".into());
    add("-smp", CPUS.to_string());
    add("-m", "1536".into());
    add("-display", "none".into());
    add("-kernel", asset("vmlinuz"));
    add("-initrd", asset("initrd"));
    add("-append", append);
    add("-serial", format!("file:{}", file("serial")));
    add("-monitor", format!("unix:{},server,nowait", file("monitor")));
    add("-virtfs", format!("local,path={},mount_tag=share,security_model=none", file("share")));
    for side in Side::ALL {
        let (number, id) = (side as usize, backend(side));
        // igb insists on a port of its own.
        add(
            "-device",
            format!("pcie-root-port,id=rp{number},chassis={},addr={}", number + 1, number + 4),
        );
        let netdev = match card.backend_queues {
            1 => Datagrams::netdev(directory, id, side),
            queues => format!(
                "tap,id={id},ifname={},queues={queues},script=no,downscript=no,vhost=off",
                tap(side)
            ),
        };
        add("-netdev", netdev);
        add(
            "-device",
            format!("{},netdev={id},mac=02:00:00:00:01:0{number},bus=rp{number}", card.device),
        );
    }
    words.extend(["-nodefaults", "-no-reboot"].map(str::to_owned));
    words
}
