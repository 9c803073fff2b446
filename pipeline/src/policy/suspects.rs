//! A filter by the first bits of addresses, for a question that nearly every packet answers with no.

use std::net::IpAddr;

use ipnet::IpNet;

/// The bits of an address that are looked at.
const BITS: u32 = 12;
const WORDS: usize = 1 << BITS >> 6;

/// The addresses that may be in some prefixes: all that have the same first 12 bits as one of them,
/// or of IPv6 the same hash of the first 32 bits.
///
/// # Examples
/// ```
/// use pipeline::policy::suspects::Suspects;
///
/// let suspects = Suspects::new(["198.51.100.0/24".parse().unwrap()].iter());
/// assert!(suspects.has("198.51.100.10".parse().unwrap()));
/// assert!(!suspects.has("203.0.113.10".parse().unwrap()));
/// ```
#[derive(Clone, Debug)]
pub struct Suspects {
    v4: [u64; WORDS],
    v6: [u64; WORDS],
}

impl Suspects {
    /// Returns the filter of these prefixes.
    pub fn new<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> Self {
        let mut suspects = Self { v4: [0; WORDS], v6: [0; WORDS] };
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => {
                    let first = place(net.network().into());
                    let last = place(net.broadcast().into());
                    (first..=last).for_each(|at| suspects.v4[at >> 6] |= 1 << (at & 63));
                }
                IpNet::V6(net) if net.prefix_len() >= 32 => {
                    let at = place(net.network().into());
                    suspects.v6[at >> 6] |= 1 << (at & 63);
                }
                IpNet::V6(_) => suspects.v6 = [u64::MAX; WORDS],
            }
        }
        suspects
    }

    /// Returns whether an address may be in one of the prefixes.
    #[inline(always)]
    pub fn has(&self, address: IpAddr) -> bool {
        let words = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let at = place(address);
        words[at >> 6 & (WORDS - 1)] >> (at & 63) & 1 != 0
    }
}

#[inline(always)]
fn place(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => ((address.to_bits() >> 96) as u32).wrapping_mul(0x9e37_79b1),
    };
    (bits >> (32 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_prefix_is_suspect_and_few_others_are() {
        let prefixes = ["198.51.100.0/24", "10.0.0.0/8", "2001:db8:30::/64"];
        let prefixes = prefixes.map(|prefix| prefix.parse::<IpNet>().unwrap());
        let suspects = Suspects::new(prefixes.iter());
        let has = |text: &str| suspects.has(text.parse().unwrap());
        assert!(has("198.51.100.255") && has("10.0.0.0") && has("10.255.255.255"));
        assert!(has("2001:db8:30::1") && !has("2a00:1450::1"));
        assert!(!has("11.0.0.0") && !has("9.255.255.255") && !has("203.0.113.10"));
        let wide = [("::/0".parse::<IpNet>().unwrap())];
        assert!(Suspects::new(wide.iter()).has("2a00:1450::1".parse().unwrap()));
        assert!(!Suspects::new([].iter()).has("0.0.0.0".parse().unwrap()));
    }
}
