//! The names that scenarios give to endpoints, MAC addresses and keys.

use std::net::{IpAddr, SocketAddr};

use firstack_packets::Mac;

use super::hex;
pub use firstack_packets::tag::Key;

/// An address and a port.
pub type Endpoint = (IpAddr, u16);

/// Names and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    endpoints: Vec<(String, Endpoint)>,
    macs: Vec<(String, Mac)>,
    keys: Vec<(String, Key)>,
}

impl Names {
    /// Reads lines of a name and an endpoint, a MAC address or a key; `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut names = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (name, value) =
                line.split_once(char::is_whitespace).ok_or(format!("{line}: no value"))?;
            names.add(name, value.trim())?;
        }
        Ok(names)
    }

    /// Gives a name, which stands before an earlier one of the same spelling.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = name.to_owned();
        if let Some(mac) = mac(value) {
            self.macs.insert(0, (name, mac));
        } else if let Ok(at) = value.parse::<SocketAddr>() {
            self.endpoints.insert(0, (name, (at.ip(), at.port())));
        } else if let Some(key) = key(value) {
            self.keys.insert(0, (name, key));
        } else {
            return Err(format!("{value} is neither address:port, nor MAC address, nor key"));
        }
        Ok(())
    }

    /// The endpoint that a text stands for: a name, `name:port`, an address, `address:port`, or
    /// `[address]:port`. An address alone has port 0.
    pub fn endpoint(&self, text: &str) -> Result<Endpoint, String> {
        let named = |name: &str| self.endpoints.iter().find(|(known, _)| known == name);
        if let Some((_, endpoint)) = named(text) {
            return Ok(*endpoint);
        }
        if let Ok(address) = text.parse() {
            return Ok((address, 0));
        }
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok((at.ip(), at.port()));
        }
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        let (_, (address, _)) = named(name).ok_or(format!("{text} is no endpoint"))?;
        Ok((*address, port.parse().map_err(|_| format!("{text}: no port"))?))
    }

    /// The MAC address that a text stands for.
    pub fn mac(&self, text: &str) -> Result<Mac, String> {
        let named = self.macs.iter().find(|(name, _)| name == text).map(|(_, mac)| *mac);
        named.or_else(|| mac(text)).ok_or(format!("{text} is no MAC address"))
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<Key> {
        self.keys.iter().find(|(known, _)| known == name).map(|(_, key)| *key)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Key)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), *key))
    }

    /// The shortest text for an endpoint.
    pub fn show(&self, (address, port): Endpoint) -> String {
        let same_host = || self.endpoints.iter().find(|(_, at)| at.0 == address);
        if let Some((name, _)) = self.endpoints.iter().find(|(_, at)| *at == (address, port)) {
            name.clone()
        } else if let Some((name, _)) = same_host() {
            format!("{name}:{port}")
        } else {
            SocketAddr::new(address, port).to_string()
        }
    }

    /// The shortest text for an address.
    pub fn show_address(&self, address: IpAddr) -> String {
        let named = self.endpoints.iter().find(|(_, at)| at.0 == address);
        named.map_or_else(|| address.to_string(), |(name, _)| name.clone())
    }

    /// The shortest text for a MAC address.
    pub fn show_mac(&self, mac: Mac) -> String {
        let named = self.macs.iter().find(|(_, known)| *known == mac);
        let hex = || mac.map(|byte| format!("{byte:02x}")).join(":");
        named.map_or_else(hex, |(name, _)| name.clone())
    }
}

fn mac(text: &str) -> Option<Mac> {
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok());
    let mac = [bytes.next()??, bytes.next()??, bytes.next()??];
    let [a, b, c] = mac;
    let mac = [a, b, c, bytes.next()??, bytes.next()??, bytes.next()??];
    bytes.next().is_none().then_some(mac)
}

fn key(text: &str) -> Option<Key> {
    hex(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_they_were_given() {
        let mut names = Names::parse("C 10.0.0.1:4000 # client\nhost 02:00:00:00:00:10").unwrap();
        assert_eq!(names.endpoint("C"), Ok(([10, 0, 0, 1].into(), 4000)));
        assert_eq!(names.endpoint("C:80"), Ok(([10, 0, 0, 1].into(), 80)));
        assert_eq!(names.endpoint("10.0.0.2:80"), Ok(([10, 0, 0, 2].into(), 80)));
        assert_eq!(names.endpoint("10.0.0.2"), Ok(([10, 0, 0, 2].into(), 0)));
        assert!(names.endpoint("D").is_err() && names.mac("guest").is_err());
        assert!(names.endpoint("C:").is_err() && names.endpoint("C:x").is_err());
        assert_eq!(names.mac("host"), Ok([2, 0, 0, 0, 0, 0x10]));
        assert_eq!(names.show(([10, 0, 0, 1].into(), 4000)), "C");
        assert_eq!(names.show(([10, 0, 0, 1].into(), 80)), "C:80");
        assert_eq!(names.show_mac([2, 0, 0, 0, 0, 0x11]), "02:00:00:00:00:11");
        names.add("C", "10.0.0.9:1").unwrap();
        assert_eq!(names.endpoint("C"), Ok(([10, 0, 0, 9].into(), 1)));
    }

    #[test]
    fn ipv6_stands_in_brackets_before_a_port() {
        let names = Names::parse("C6 [2001:db8::1]:4000\nK 000102030405060708090a0b0c0d0e0f");
        let names = names.unwrap();
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        for (text, port) in [("C6", 4000), ("C6:80", 80), ("2001:db8::1", 0)] {
            assert_eq!(names.endpoint(text), Ok((client, port)));
        }
        let stranger = names.endpoint("[2001:db8::2]:80").unwrap();
        assert_eq!(names.show(stranger), "[2001:db8::2]:80");
        assert_eq!(names.show_address(stranger.0), "2001:db8::2");
        assert_eq!(
            (names.show((client, 80)), names.show_address(client)),
            ("C6:80".into(), "C6".into())
        );
        assert_eq!(names.key("K").map(|key| key[15]), Some(15));
    }
}
