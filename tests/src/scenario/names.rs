//! The names that scenarios give to endpoints and MAC addresses.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::packet::Mac;

/// An address and a port.
pub type Endpoint = (Ipv4Addr, u16);

/// Names and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    endpoints: Vec<(String, Endpoint)>,
    macs: Vec<(String, Mac)>,
}

impl Names {
    /// Reads lines of a name and an endpoint or a MAC address; `#` begins a comment.
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
        match (mac(value), value.parse::<SocketAddrV4>()) {
            (Some(mac), _) => self.macs.insert(0, (name.to_owned(), mac)),
            (None, Ok(at)) => self.endpoints.insert(0, (name.to_owned(), (*at.ip(), at.port()))),
            _ => return Err(format!("{value} is neither address:port nor MAC address")),
        }
        Ok(())
    }

    /// The endpoint that a text stands for: a name, `name:port`, an address, or
    /// `address:port`. An address alone has port 0.
    pub fn endpoint(&self, text: &str) -> Result<Endpoint, String> {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                (host, Some(port.parse().map_err(|_| format!("{text}: no port"))?))
            }
            None => (text, None),
        };
        let (address, own) = match self.endpoints.iter().find(|(name, _)| name == host) {
            Some((_, endpoint)) => *endpoint,
            None => (host.parse().map_err(|_| format!("{text} is no endpoint"))?, 0),
        };
        Ok((address, port.unwrap_or(own)))
    }

    /// The MAC address that a text stands for.
    pub fn mac(&self, text: &str) -> Result<Mac, String> {
        let named = self.macs.iter().find(|(name, _)| name == text).map(|(_, mac)| *mac);
        named.or_else(|| mac(text)).ok_or(format!("{text} is no MAC address"))
    }

    /// The shortest text for an endpoint.
    pub fn show(&self, (address, port): Endpoint) -> String {
        let same_host = || self.endpoints.iter().find(|(_, at)| at.0 == address);
        if let Some((name, _)) = self.endpoints.iter().find(|(_, at)| *at == (address, port)) {
            name.clone()
        } else if let Some((name, _)) = same_host() {
            format!("{name}:{port}")
        } else {
            format!("{address}:{port}")
        }
    }

    /// The shortest text for an address.
    pub fn show_address(&self, address: Ipv4Addr) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_they_were_given() {
        let mut names = Names::parse("C 10.0.0.1:4000 # client\nhost 02:00:00:00:00:10").unwrap();
        assert_eq!(names.endpoint("C"), Ok(([10, 0, 0, 1].into(), 4000)));
        assert_eq!(names.endpoint("C:80"), Ok(([10, 0, 0, 1].into(), 80)));
        assert_eq!(names.endpoint("10.0.0.2:80"), Ok(([10, 0, 0, 2].into(), 80)));
        assert!(names.endpoint("D").is_err() && names.mac("guest").is_err());
        assert_eq!(names.mac("host"), Ok([2, 0, 0, 0, 0, 0x10]));
        assert_eq!(names.show(([10, 0, 0, 1].into(), 4000)), "C");
        assert_eq!(names.show(([10, 0, 0, 1].into(), 80)), "C:80");
        assert_eq!(names.show_mac([2, 0, 0, 0, 0, 0x11]), "02:00:00:00:00:11");
        names.add("C", "10.0.0.9:1").unwrap();
        assert_eq!(names.endpoint("C"), Ok(([10, 0, 0, 9].into(), 1)));
    }
}
