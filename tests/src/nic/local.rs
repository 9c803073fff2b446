//! This machine, whose ports are cabled to kernel interfaces.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::Packets;
use super::{Answer, Machine, Result, Trouble};
use crate::lab::{Lab, LabError, run};
use crate::scenario::Side;

/// What a kernel interface may do to frames, and must not.
const OFFLOADS: [&str; 9] =
    ["rx", "tx", "tso", "gso", "gro", "lro", "rxvlan", "txvlan", "rx-vlan-stag-hw-parse"];
/// MTU of the interfaces: for the longest frames and their tags.
const MTU: &str = "9100";
/// The time for links to come up once both ends are.
const COMES_UP: Duration = Duration::from_secs(60);

/// This machine, and the kernel interfaces at the far ends of the ports.
#[derive(Debug)]
pub struct Local {
    directory: PathBuf,
    peers: [String; 2],
    _lab: Lab,
}

impl Local {
    /// Prepares the interfaces, inside and outside: without offloads, promiscuous, up. They should have
    /// no addresses. They are left so.
    ///
    /// # Errors
    /// If an interface cannot be prepared.
    pub fn new(peers: [&str; 2]) -> Result<(Self, Packets)> {
        let lab = Lab::new("nic")?;
        let directory = lab.directory().to_owned();
        for peer in peers {
            for offload in OFFLOADS {
                // What an interface does not have cannot be in the way.
                let _ = run(&["ethtool", "-K", peer, offload, "off"]);
            }
            let _ = run(&["sysctl", "-q", "-w", &format!("net.ipv6.conf.{peer}.disable_ipv6=1")]);
            run(&["ip", "link", "set", "dev", peer, "mtu", MTU, "promisc", "on", "up"])?;
        }
        let wire = Packets::open(peers)
            .map_err(|source| LabError::File { path: peers.join(",").into(), source })?;
        Ok((Self { directory, peers: peers.map(str::to_owned), _lab: lab }, wire))
    }

    /// Waits until the far ends have their links.
    ///
    /// # Errors
    /// If one has none after a minute.
    pub fn wait_for_links(&self) -> Result<()> {
        let start = Instant::now();
        for peer in &self.peers {
            let carrier = format!("/sys/class/net/{peer}/carrier");
            while std::fs::read_to_string(&carrier).is_ok_and(|text| text.trim() != "1") {
                if start.elapsed() > COMES_UP {
                    return Err(format!("{peer} has no link: is it cabled to the port?").into());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Machine for Local {
    fn shell(&mut self, script: &str, limit: Duration) -> Result<Answer> {
        // The exit code is part of the answer.
        let script = format!("({script}\n) 2>&1; echo \"code=$?\"");
        let said = crate::lab::run_within(&["sh", "-c", &script], limit)?.stdout;
        let (text, code) = said.rsplit_once("code=").unwrap_or((&said, ""));
        let code = code.trim().parse().map_err(|_| format!("no exit code in {said}"))?;
        Ok(Answer { code, text: text.to_owned() })
    }

    fn share(&self) -> &Path {
        &self.directory
    }

    fn shared(&self) -> &Path {
        &self.directory
    }

    fn set_link(&mut self, side: Side, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        run(&["ip", "link", "set", "dev", &self.peers[side as usize], state])?;
        Ok(())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
