//! Examines the kernel interfaces below virtual devices: net_af_packet and net_pcap receive what
//! the kernel makes of frames, and lose what does not fit their buffers, without a word.

use super::{Bus, Device};
use crate::sys::interface::{self, Features};

/// Bytes of a frame of net_af_packet's ring in front of the packet (packet(7): `TPACKET2_HDRLEN`,
/// alignment and the Ethernet header's own).
const RING_HEADER: u32 = 66;
/// Bytes of a frame of the ring that the driver does not copy into a buffer.
const NOT_COPIED: u32 = 32;
/// The driver's own frame size in bytes.
const DEFAULT_FRAME: u32 = 2048;
/// The ring's frames begin at multiples of this; the driver wants whole frames in a block, and the
/// kernel whole pages.
const UNIT: u32 = 512;
const PAGE: u32 = 4096;
/// An Ethernet header. The kernel takes VLAN tags off before the ring sees the frame.
const ETHERNET: u32 = 14;

/// What was found about a device's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why it must not be used as it is, each with the command that mends it.
    pub refused: Vec<String>,
    /// What an operator should know.
    pub warned: Vec<String>,
}

/// The state of an interface.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    features: Features,
    mtu: u32,
}

/// Returns the device with the arguments that firstack adds: a frame size of net_af_packet's ring
/// that fits the buffers of `max_frame` bytes, unless arguments of the ring are given.
pub fn completed(device: &Device, max_frame: u16) -> Device {
    let mut device = device.clone();
    let is_given = ["framesz", "blocksz", "framecnt"].iter().any(|a| device.argument(a).is_some());
    let frame = ring_frame(max_frame);
    if is_af_packet(&device) && !is_given && frame != DEFAULT_FRAME {
        let block = frame * PAGE / gcd(frame, PAGE);
        device.arguments.push_str(&format!(",framesz={frame},blocksz={block},framecnt=512"));
    }
    device
}

/// Returns the largest frame of the ring that fits a buffer.
fn ring_frame(max_frame: u16) -> u32 {
    (u32::from(max_frame) + NOT_COPIED) / UNIT * UNIT
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn is_af_packet(device: &Device) -> bool {
    device.bus == Bus::Virtual { driver: "net_af_packet" }
}

/// Examines the interface of a device, if it has one. An interface that cannot be asked is taken for
/// sound.
pub fn examine(device: &Device, max_frame: u16) -> Findings {
    let interfaces = ["iface", "rx_iface", "rx_iface_in"];
    let Some(name) = interfaces.iter().find_map(|argument| device.argument(argument)) else {
        return Findings::default();
    };
    let Ok(features) = interface::features(name) else { return Findings::default() };
    let state = State { features, mtu: interface::mtu(name).unwrap_or(0) };
    judge(device, name, max_frame, state)
}

fn judge(device: &Device, name: &str, max_frame: u16, state: State) -> Findings {
    let mut findings = Findings::default();
    let State { features, mtu } = state;
    let driver = match device.bus {
        Bus::Virtual { driver: driver @ ("net_af_packet" | "net_pcap") } => driver,
        _ => "",
    };
    let mut refuse = |has: bool, what: &str, feature: &str| {
        if has && !driver.is_empty() {
            findings.refused.push(format!(
                "{name} has {what} on, and {driver} would forward merged frames cut off; expected \
                 it off: ethtool -K {name} {feature} off"
            ));
        }
    };
    refuse(features.gro, "generic receive offload", "gro");
    refuse(features.lro, "large receive offload", "lro");
    if driver == "net_af_packet" {
        let device = completed(device, max_frame);
        let frame = device.argument("framesz").and_then(|text| text.parse().ok());
        let frame: u32 = frame.unwrap_or(DEFAULT_FRAME);
        let longest = frame.saturating_sub(RING_HEADER);
        if mtu + ETHERNET > longest {
            // The driver wants room for the ring's frame in one buffer.
            let needed = (mtu + ETHERNET + RING_HEADER).next_multiple_of(UNIT);
            let fits = longest.saturating_sub(ETHERNET);
            let larger = match needed <= 9728 {
                true => format!("memory.max_frame = {needed}, or "),
                false => String::new(),
            };
            findings.refused.push(format!(
                "{name} has MTU {mtu}, and {driver} cuts frames beyond {longest} bytes; expected a \
                 ring that they fit: {larger}ip link set dev {name} mtu {fits}"
            ));
        }
    }
    if features.unfinished_checksums {
        findings.warned.push(format!(
            "{name} is a veth that leaves checksums to hardware; if its other end does so as well, \
             no SYN from there is raced (untagged_tcp_checksum): ethtool -K {name} tx off, at both \
             ends"
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::super::device::device;
    use super::*;

    fn of(text: &str) -> Device {
        device(&DeValue::String(text.into())).unwrap()
    }

    fn findings(text: &str, max_frame: u16, features: Features, mtu: u32) -> Findings {
        judge(&of(text), "eth0", max_frame, State { features, mtu })
    }

    #[test]
    fn the_rings_frames_follow_max_frame_unless_they_are_given() {
        let arguments = |text, max_frame| completed(&of(text), max_frame).arguments;
        let plain = "net_af_packet0,iface=eth0";
        assert_eq!(arguments(plain, 2048), "iface=eth0");
        assert_eq!(arguments(plain, 9728), "iface=eth0,framesz=9728,blocksz=77824,framecnt=512");
        assert_eq!(arguments(plain, 4096), "iface=eth0,framesz=4096,blocksz=4096,framecnt=512");
        let given = "net_af_packet0,iface=eth0,framesz=4096,blocksz=8192";
        assert_eq!(arguments(given, 9728), "iface=eth0,framesz=4096,blocksz=8192");
        for other in ["net_af_xdp0,iface=eth0", "net_tap0", "0000:01:00.0"] {
            assert_eq!(completed(&of(other), 9728), of(other));
        }
        // What the kernel and the driver want.
        for max_frame in 1518..=9728 {
            let frame = ring_frame(max_frame);
            let block = frame * PAGE / gcd(frame, PAGE);
            assert!(frame - NOT_COPIED <= u32::from(max_frame) && frame >= 1536);
            assert!(block.is_multiple_of(PAGE) && block.is_multiple_of(frame));
            assert!(512u32.is_multiple_of(block / frame));
        }
    }

    #[test]
    fn merged_frames_are_refused_where_they_would_be_cut() {
        let merges = Features { gro: true, lro: true, ..Features::default() };
        for (device, count) in [
            ("net_af_packet0,iface=eth0", 2),
            ("net_pcap0,iface=eth0", 2),
            ("net_af_xdp0,iface=eth0", 0),
            ("net_tap0,iface=eth0", 0),
        ] {
            let found = findings(device, 2048, merges, 1500);
            assert_eq!(found.refused.len(), count, "{found:?}");
        }
        let found = findings("net_af_packet0,iface=eth0", 2048, merges, 1500);
        assert!(found.refused[0].ends_with("ethtool -K eth0 gro off"), "{found:?}");
        assert!(found.refused[1].ends_with("ethtool -K eth0 lro off"), "{found:?}");
        let sound = findings("net_af_packet0,iface=eth0", 2048, Features::default(), 1500);
        assert_eq!((sound.refused.len(), sound.warned.len()), (0, 0));
    }

    #[test]
    fn an_mtu_beyond_the_rings_frames_is_refused() {
        let refused = |text: &str, max_frame, mtu| {
            findings(text, max_frame, Features::default(), mtu).refused.join("")
        };
        let plain = "net_af_packet0,iface=eth0";
        assert_eq!(refused(plain, 2048, 1968), "");
        assert_eq!(
            refused(plain, 2048, 1969),
            "eth0 has MTU 1969, and net_af_packet cuts frames beyond 1982 bytes; expected a ring \
             that they fit: memory.max_frame = 2560, or ip link set dev eth0 mtu 1968"
        );
        assert_eq!(refused(plain, 9728, 9000), "");
        assert!(refused(plain, 2048, 9000).contains("memory.max_frame = 9216, or"));
        assert_eq!(refused(plain, 9216, 9000), "");
        let unreachable = refused(plain, 9728, 65535);
        assert!(unreachable.ends_with("fit: ip link set dev eth0 mtu 9648"), "{unreachable}");
        assert!(!refused("net_af_packet0,iface=eth0,framesz=1024", 9728, 1500).is_empty());
        assert_eq!(refused("net_af_xdp0,iface=eth0", 2048, 9000), "");
    }

    #[test]
    fn unfinished_checksums_are_warned_of() {
        let veth = Features { unfinished_checksums: true, ..Features::default() };
        let found = findings("net_af_packet0,iface=eth0", 2048, veth, 1500);
        assert!(found.warned[0].contains("ethtool -K eth0 tx off, at both ends"), "{found:?}");
    }
}
