//! Every case on one machine.

use std::path::{Path, PathBuf};

use super::appliance::{Appliance, Place};
use super::cases::{self, gateway};
use super::drive::Drive;
use super::wire::Wire;
use super::{Card, Guest, Machine, Placement, Result, Row, Trouble};
use crate::lab::run;

/// The processes of a trial, by the configuration of the gateway.
const CONFIGURATIONS: [char; 3] = ['A', 'B', 'C'];

/// What is tried, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The name in the table.
    pub name: String,
    /// `firstack`.
    pub binary: PathBuf,
    /// The DPDK devices, inside and outside.
    pub devices: [String; 2],
    /// CPUs of the workers, one each.
    pub cores: Vec<usize>,
    /// Arguments of DPDK's EAL.
    pub eal: Vec<String>,
    /// DPDK's driver; empty if it does not matter.
    pub driver: String,
    /// Who places packets.
    pub placement: Placement,
    /// The longest frame that passes, in bytes.
    pub longest: usize,
    /// Why longer ones do not.
    pub limit: String,
}

impl Trial {
    /// Creates the trial of an emulated card.
    #[must_use]
    pub fn of_card(card: &Card, binary: &Path) -> Self {
        Self {
            name: card.name.to_owned(),
            binary: binary.to_owned(),
            devices: Guest::devices(),
            // Several workers on a CPU, because a guest with more of them stalls.
            cores: (0..card.workers).map(|worker| worker % 2).collect(),
            eal: Vec::new(),
            driver: card.driver.to_owned(),
            placement: card.placement,
            longest: card.longest,
            limit: card.limit.to_owned(),
        }
    }

    /// Runs every case. The first that fails ends the trial, since what follows depends on it.
    ///
    /// # Errors
    /// [`Trouble::Silent`] when the machine does not answer: what was seen says nothing of firstack.
    pub fn run(
        &self,
        machine: &mut dyn Machine,
        wire: &mut dyn Wire,
        mut report: impl FnMut(&Row),
    ) -> Result<Vec<Row>> {
        let (program, own) = self.install(machine)?;
        let (devices, cores, eal) = (self.devices.clone(), self.cores.clone(), self.eal.clone());
        let place = Place { devices, cores, eal, program, own };
        let mut drive = Drive { machine, wire, place: &place, sent: [0; 2] };
        let mut course =
            Course { trial: self, rows: Vec::new(), case: "start", report: &mut report };
        let ended = course.run(&mut drive);
        if ended.is_err() {
            let shared = drive.machine.shared().display().to_string();
            // A process that is left would hold the ports.
            let script = format!("kill -9 $(cat {shared}/run.pid) 2>/dev/null; true");
            let _ = drive.machine.shell(&script, super::PATIENCE);
        }
        match ended {
            Ok(()) => {}
            Err(Trouble::Silent(what)) => return Err(Trouble::Silent(what)),
            Err(trouble) => course.note(Err(trouble.to_string())),
        }
        Ok(course.rows)
    }

    /// Puts the program where the machine runs it from; returns that and a directory of its own.
    fn install(&self, machine: &mut dyn Machine) -> Result<(String, PathBuf)> {
        if machine.share() == machine.shared() {
            return Ok((self.binary.display().to_string(), machine.share().to_owned()));
        }
        // Without what is for debuggers it is a fifth of the size.
        let (from, to) = (self.binary.display(), machine.share().join("firstack"));
        run(&["strip", "-o", &to.display().to_string(), &from.to_string()])?;
        let shared = machine.shared().display().to_string();
        let answer =
            machine.shell(&format!("cp {shared}/firstack /bin/firstack"), super::PATIENCE)?;
        match answer.code {
            0 => Ok(("/bin/firstack".to_owned(), PathBuf::from("/tmp"))),
            _ => Err(answer.text.into()),
        }
    }
}

/// The cases so far.
struct Course<'a> {
    trial: &'a Trial,
    rows: Vec<Row>,
    /// The case that runs.
    case: &'static str,
    report: &'a mut dyn FnMut(&Row),
}

impl Course<'_> {
    fn run(&mut self, drive: &mut Drive<'_>) -> Result<()> {
        for configuration in CONFIGURATIONS {
            let name = format!("{}-{configuration}", std::process::id());
            let process = self.start(configuration, &name, drive)?;
            if configuration == 'A' {
                self.case = "forward";
                let seen = cases::forward(self.trial, drive)?;
                self.note(Ok(seen));
            }
            self.case = ["race A", "race B", "race C"][configuration as usize - 'A' as usize];
            let seen = cases::race(configuration, drive, &process)?;
            self.note(Ok(seen));
            let process = match configuration {
                'A' => {
                    if self.trial.cores.len() > 1 {
                        self.case = "placement";
                        let seen = cases::placement(self.trial, drive, &process)?;
                        self.note(Ok(seen));
                    }
                    self.case = "links";
                    let seen = cases::links(drive, &process)?;
                    self.note(Ok(seen));
                    process
                }
                'B' => {
                    self.case = "kill -9";
                    let (process, seen) = cases::kill(configuration, &name, drive, process)?;
                    self.note(Ok(seen));
                    process
                }
                _ => process,
            };
            self.case = "stop";
            let seen = cases::stop(drive, process)?;
            if configuration == 'C' {
                self.note(Ok(seen));
            }
        }
        Ok(())
    }

    /// Starts a process, and looks at what its ports are.
    fn start(
        &mut self,
        configuration: char,
        name: &str,
        drive: &mut Drive<'_>,
    ) -> Result<Appliance> {
        self.case = "start";
        let scenario = gateway(configuration)?;
        let process = Appliance::start(drive.machine, drive.place, &scenario, name)?;
        let ports = process.stats(drive.machine, drive.place)?.ports;
        let driver = &self.trial.driver;
        if let Some(port) = ports.iter().find(|port| !driver.is_empty() && port.driver != *driver) {
            return Err(format!("the driver is {}, not {driver}", port.driver).into());
        }
        if let Some(port) = ports.iter().find(|port| !port.link_up) {
            return Err(format!("{} has no link", port.device).into());
        }
        if configuration == CONFIGURATIONS[0] {
            let driver = ports.first().map_or("", |port| port.driver.as_str());
            let workers = self.trial.cores.len();
            let took = process.took.as_secs_f64();
            self.note(Ok(format!("{driver}, {workers} workers, forwards after {took:.1} s")));
        }
        Ok(process)
    }

    fn note(&mut self, seen: Result<String, String>) {
        let row = Row { card: self.trial.name.clone(), case: self.case, seen };
        (self.report)(&row);
        self.rows.push(row);
    }
}
