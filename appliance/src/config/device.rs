//! The Ethernet device of a port: a PCI function or a DPDK virtual device.

use std::fmt;

use toml::de::DeValue;

use super::value::{self, Parsed};

/// The drivers of virtual devices that firstack supports.
const DRIVERS: [&str; 7] =
    ["net_pcap", "net_af_packet", "net_tap", "net_af_xdp", "net_ring", "net_memif", "net_null"];

/// The longest device name that DPDK accepts, in bytes (`RTE_DEV_NAME_MAX_LEN` with its final NUL).
const MAX_NAME: usize = 63;

/// How a device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A PCI function; the EAL is told to allow it.
    Pci,
    /// A virtual device; the EAL is told to create it.
    Virtual {
        /// The driver, such as `net_af_packet`.
        driver: &'static str,
    },
}

/// A DPDK device, as named by the operator. Its `Display` form is the EAL's: `name,arguments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// DPDK's name of the device: a full PCI address in lower case, such as `0000:03:00.0`, or
    /// driver and suffix, such as `net_af_packet0`.
    pub name: String,
    /// Driver arguments in DPDK's form, such as `iface=eth0,blocksz=4096`; may be empty.
    pub arguments: String,
    /// How the device is attached.
    pub bus: Bus,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arguments.as_str() {
            "" => f.write_str(&self.name),
            arguments => write!(f, "{},{arguments}", self.name),
        }
    }
}

impl Device {
    /// Returns the value of a driver argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let mut pairs = self.arguments.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns whether the device is a PCI function.
    pub fn is_pci(&self) -> bool {
        self.bus == Bus::Pci
    }

    /// Returns what two devices have in common that makes it impossible to use both, or `None`.
    pub(super) fn clash(&self, other: &Self) -> Option<String> {
        if self.name == other.name {
            return Some(format!("the device {}", self.name));
        }
        let same_driver = !self.is_pci() && self.bus == other.bus;
        let interface = self.argument("iface").filter(|_| same_driver)?;
        (other.argument("iface") == Some(interface)).then(|| format!("the interface {interface}"))
    }
}

/// Parses a device.
pub(super) fn device(value: &DeValue<'_>) -> Parsed<Device> {
    let text = value::text(value)?;
    let (name, arguments) = text.split_once(',').unwrap_or((text, ""));
    if arguments.split(',').any(|pair| pair.is_empty()) && text.contains(',') {
        return Err("has an empty driver argument".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return Err("contains a blank".to_owned());
    }
    let arguments = arguments.to_owned();
    if name.starts_with("net_") {
        return virtual_device(name, arguments);
    }
    let name = pci_address(name).ok_or_else(|| "is not a device name".to_owned())?;
    Ok(Device { name, arguments, bus: Bus::Pci })
}

fn virtual_device(name: &str, arguments: String) -> Parsed<Device> {
    let Some((driver, suffix)) =
        DRIVERS.iter().find_map(|driver| Some((*driver, name.strip_prefix(driver)?)))
    else {
        return Err(format!("has an unknown driver, known are {}", DRIVERS.join(", ")));
    };
    if suffix.is_empty() {
        return Err(format!("lacks a number after the driver, as in {driver}0"));
    }
    if !suffix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.len() > MAX_NAME {
        return Err(format!("has a name that is not {driver} with a number"));
    }
    let device = Device { name: name.to_owned(), arguments, bus: Bus::Virtual { driver } };
    let needed: &[&str] = match driver {
        "net_af_packet" | "net_af_xdp" => &["iface"],
        "net_pcap" => &["iface", "rx_pcap", "rx_iface", "rx_iface_in"],
        _ => &[],
    };
    let present = |name: &&str| device.argument(name).is_some_and(|value| !value.is_empty());
    match needed.is_empty() || needed.iter().any(present) {
        true => Ok(device),
        false => Err(format!("lacks the driver argument {}=", needed.join("= or "))),
    }
}

/// Returns the full form of a PCI address, whose domain may be left out if it is 0.
fn pci_address(text: &str) -> Option<String> {
    let hex = |digits: &str, length: usize, max: u32| {
        let all_hex = digits.len() == length && digits.bytes().all(|d| d.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok()?;
        (all_hex && number <= max).then_some(number)
    };
    let (rest, function) = text.split_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.split_once(':').unwrap_or(("0000", rest));
    let domain = hex(domain, 4, 0xffff)?;
    let bus = hex(bus, 2, 0xff)?;
    let device = hex(device, 2, 0x1f)?;
    let function = hex(function, 1, 7)?;
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
}
