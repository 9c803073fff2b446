//! Checks that this machine has what a valid configuration names: CPUs, devices, capture files, and
//! key and password files that others cannot read.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml::de::DeTable;

use super::pci::Pci;
use super::{Config, ConfigError, ConfigErrors, Device, Gateway, Role, interface, memory, pages};
use crate::sys::kept_memory;

/// The lines of the keys whose values this machine may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The line of `table.max_connections`; if it is not given, that of its section, or 1.
    pub table: usize,
    /// The line of `table.directory`; if it is not given, that of its section, or 1.
    pub directory: usize,
    /// The lines of `port.inside.device` and `port.outside.device`.
    pub devices: [usize; 2],
    /// The line of `worker.cores`; if it is not given, that of its section, or 1.
    pub cores: usize,
    /// The line of `tag.keys`; if it is not given, that of its section, or 1.
    pub keys: usize,
    /// The line of `gateway.share.password_file`; if it is not given, that of its section, or 1.
    pub password: usize,
    /// The line of `eal.file_prefix`; if it is not given, that of its section, or 1.
    pub prefix: usize,
    /// The line of `eal.args`; if it is not given, that of its section, or 1.
    pub args: usize,
    /// The line of `memory.mbufs`; if it is not given, that of its section, or 1.
    pub mbufs: usize,
    /// The line of `control.socket`; if it is not given, that of its section, or 1.
    pub socket: usize,
}

impl Places {
    /// Finds the keys in the document; `line` returns the line at a byte offset.
    pub(super) fn of(table: &DeTable<'_>, line: impl Fn(usize) -> usize) -> Self {
        let find = |key: &str| {
            let (mut table, mut at) = (Some(table), 0);
            for name in key.split('.') {
                let Some(value) = table.and_then(|table| table.get(name)) else { break };
                at = value.span().start;
                table = value.get_ref().as_table();
            }
            line(at)
        };
        Self {
            table: find(TABLE_KEY),
            directory: find(DIRECTORY_KEY),
            devices: DEVICE_KEYS.map(find),
            cores: find(CORES_KEY),
            keys: find(KEYS_KEY),
            password: find(PASSWORD_KEY),
            prefix: find(PREFIX_KEY),
            args: find(ARGS_KEY),
            mbufs: find(MBUFS_KEY),
            socket: find(SOCKET_KEY),
        }
    }

    /// Returns the line of one of these keys; 1 for another key.
    fn line(&self, key: &str) -> usize {
        match key {
            TABLE_KEY => self.table,
            DIRECTORY_KEY => self.directory,
            CORES_KEY => self.cores,
            KEYS_KEY => self.keys,
            PASSWORD_KEY => self.password,
            PREFIX_KEY => self.prefix,
            ARGS_KEY => self.args,
            MBUFS_KEY => self.mbufs,
            SOCKET_KEY => self.socket,
            _ => {
                DEVICE_KEYS.iter().position(|own| *own == key).map_or(1, |side| self.devices[side])
            }
        }
    }
}

/// The key of the directory of the tables that outlive the process.
pub const DIRECTORY_KEY: &str = "table.directory";
/// The key of the tables' size.
pub const TABLE_KEY: &str = "table.max_connections";
/// The key of DPDK's file prefix.
pub const PREFIX_KEY: &str = "eal.file_prefix";
/// The key of further EAL arguments.
pub const ARGS_KEY: &str = "eal.args";
/// The key of the number of packet buffers.
pub const MBUFS_KEY: &str = "memory.mbufs";
/// The key of the control socket.
pub const SOCKET_KEY: &str = "control.socket";
const CORES_KEY: &str = "worker.cores";
const KEYS_KEY: &str = "tag.keys";
const PASSWORD_KEY: &str = "gateway.share.password_file";
/// The keys of the two devices, inside and outside.
pub const DEVICE_KEYS: [&str; 2] = ["port.inside.device", "port.outside.device"];

impl Config {
    /// Checks that the CPUs, devices and files named by the configuration exist; errors name the
    /// configuration `file`.
    ///
    /// # Errors
    /// One for each that does not exist or cannot be used.
    pub fn check_presence(&self, file: &str) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        for core in &self.worker.cores {
            if !Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists() {
                let message = format!("this machine has no CPU {core}; expected CPUs that it has");
                errors.push(error(file, self.places.cores, CORES_KEY, message));
            }
        }
        for (side, device) in
            [&self.ports.inside.device, &self.ports.outside.device].iter().enumerate()
        {
            let messages = match find(device) {
                Ok(()) => interface::examine(device, self.memory.max_frame).refused,
                Err(message) => vec![message],
            };
            for message in messages {
                errors.push(error(file, self.places.devices[side], DEVICE_KEYS[side], message));
            }
        }
        for (key, message) in
            self.judge_memory().refused.into_iter().chain(self.judge_directory().refused)
        {
            errors.push(error(file, self.places.line(key), key, message));
        }
        let mut check = |path: Option<&Path>, line, key| {
            if let Some(Err(what)) = path.map(find_secret) {
                errors.push(error(file, line, key, format!("{what}; expected {SECRET_FILE}")));
            }
        };
        check(self.tag.keys.as_deref(), self.places.keys, KEYS_KEY);
        if let Role::Gateway(Gateway { share: Some(share), .. }) = &self.role {
            check(share.password_file.as_deref(), self.places.password, PASSWORD_KEY);
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors::new(errors)) }
    }

    /// Returns what an operator should know of this machine's devices and memory, although they can
    /// be used.
    pub fn machine_warnings(&self) -> Vec<String> {
        let devices = [&self.ports.inside.device, &self.ports.outside.device];
        let findings = devices.map(|device| interface::examine(device, self.memory.max_frame));
        let warned = findings.into_iter().flat_map(|findings| findings.warned);
        let memory = self.judge_memory().warned.into_iter().chain(self.judge_directory().warned);
        let pci = devices.into_iter().filter(|device| device.is_pci());
        let advice = pci.flat_map(|device| Pci::this().advice(&device.name, self.memory.max_frame));
        let pages = pages::warnings(self, Path::new("/sys"));
        warned.chain(memory).chain(pages).chain(advice).collect()
    }

    /// Returns the PCI devices that another process has now, with their keys; at an upgrade the process
    /// before has them.
    pub fn devices_in_use(&self) -> Vec<(&'static str, String)> {
        let devices = [&self.ports.inside.device, &self.ports.outside.device];
        let in_use = |(device, key): (&Device, &'static str)| {
            Some((key, Pci::this().in_use(device.is_pci().then_some(&device.name)?)?))
        };
        devices.into_iter().zip(DEVICE_KEYS).filter_map(in_use).collect()
    }

    fn judge_directory(&self) -> memory::Judgement {
        match self.table.keep {
            true => memory::judge_directory(self, kept_memory::room(&self.table.directory)),
            false => memory::Judgement::default(),
        }
    }

    /// Returns the bytes that the connection tables take; `None` if they take none.
    pub fn table_bytes(&self) -> Option<u64> {
        Some(memory::Needs::of(self).tables).filter(|bytes| *bytes > 0)
    }

    fn judge_memory(&self) -> memory::Judgement {
        let machine = memory::Machine::this();
        machine.map(|machine| memory::judge(memory::Needs::of(self), machine)).unwrap_or_default()
    }

    /// Returns the errors about the values of keys that turned out at the start, in the order of their
    /// lines. `key` is one of those in [`Places`].
    pub fn errors_at_start<'m>(
        &self,
        file: &str,
        messages: impl IntoIterator<Item = (&'static str, &'m str)>,
    ) -> ConfigErrors {
        let of = |(key, message): (&'static str, &str)| {
            error(file, self.places.line(key), key, message.to_owned())
        };
        ConfigErrors::new(messages.into_iter().map(of).collect())
    }
}

fn error(file: &str, line: usize, key: &str, message: String) -> ConfigError {
    ConfigError { file: file.to_owned(), line: Some(line), key: key.to_owned(), message }
}

/// The files that [`check_secret_file`] accepts, for messages.
const SECRET_FILE: &str =
    "a regular file of this process's user or root, without access for others";

/// Checks that a file with these attributes is protected enough to hold keys or a password.
fn check_secret_file(attributes: &Metadata) -> Result<(), String> {
    let user = nix::unistd::geteuid().as_raw();
    let mode = attributes.mode() & 0o7777;
    match attributes.uid() {
        _ if !attributes.is_file() => Err("is not a regular file".to_owned()),
        owner if owner != user && owner != 0 => Err(format!("belongs to user {owner}")),
        _ if mode & 0o077 != 0 => Err(format!("has mode {mode:04o}, which lets others get at it")),
        _ => Ok(()),
    }
}

fn find_secret(path: &Path) -> Result<(), String> {
    let shown = path.display();
    // Opened last, because opening a file that is not regular, such as a named pipe, can block.
    let attributes = path.metadata().map_err(|error| format!("{shown} is not there: {error}"))?;
    check_secret_file(&attributes).map_err(|what| format!("{shown} {what}"))?;
    File::open(path).map(drop).map_err(|error| format!("{shown} cannot be read: {error}"))
}

/// Returns whether a device may signal what it receives by interrupts of its own: a PCI device that is
/// bound to vfio-pci, or `net_tap`.
pub fn may_interrupt(device: &Device) -> bool {
    match device.is_pci() {
        true => Pci::this().may_interrupt(&device.name),
        false => device.name.starts_with("net_tap"),
    }
}

fn find(device: &Device) -> Result<(), String> {
    if device.is_pci() {
        return Pci::this().examine(&device.name);
    }
    // net_tap creates its interface when the port is opened; other interfaces must exist.
    let interface = device.argument("iface").filter(|_| !device.name.starts_with("net_tap"));
    if let Some(interface) = interface
        && !Path::new("/sys/class/net").join(interface).exists()
    {
        return Err(format!(
            "there is no network interface {interface} here; expected one that is: ip link"
        ));
    }
    match device.argument("rx_pcap") {
        Some(file) if !Path::new(file).exists() => {
            Err(format!("{file} is not there; expected a capture to receive from"))
        }
        _ => Ok(()),
    }
}
