//! The patent's configurations A, B and C: a value on the wire, since every tag carries it.

use super::named_values;

named_values! {
    /// How the gateway and the winner of a race exchange packets. The number is the one in the
    /// tag (docs/protocol.md, 3.1).
    #[derive(Default)]
    pub enum Configuration {
        /// Full NAT: the gateway rewrites both directions.
        #[default]
        A = "A",
        /// One-way NAT: the gateway rewrites packets to the replica; the replica writes the
        /// server's source address into its packets to the client.
        B = "B",
        /// Tunnels both ways.
        C = "C",
    }
}

impl Configuration {
    /// Whether a replica's SYN/ACK, or its refusal, reaches the gateway in a tunnel (ops 442, 462).
    #[inline(always)]
    pub const fn syn_ack_in_tunnel(self) -> bool {
        match self {
            Configuration::A => false,
            Configuration::B | Configuration::C => true,
        }
    }

    /// Whether all packets after the SYN/ACK travel in tunnels, in both directions (ops 656, 658).
    #[inline(always)]
    pub const fn data_in_tunnels(self) -> bool {
        match self {
            Configuration::A | Configuration::B => false,
            Configuration::C => true,
        }
    }

    /// Whether the gateway looks up plain data from the outside: the winner's has to be changed, or
    /// a loser's to be dropped. Under B the winner's data passes as it is (op 632).
    #[inline(always)]
    pub const fn replies_need_lookup(self) -> bool {
        match self {
            Configuration::A | Configuration::C => true,
            Configuration::B => false,
        }
    }

    /// Whether the replica changes a web server's packets on their way to the client.
    #[inline(always)]
    pub const fn replica_translates(self) -> bool {
        match self {
            Configuration::A => false,
            Configuration::B | Configuration::C => true,
        }
    }

    /// Whether the winner's data leaves plain with the server's source address: a router's ICMP
    /// error about it then reaches the origin's site, and the switch has to pass it on.
    #[inline(always)]
    pub const fn data_plain_as_server(self) -> bool {
        match self {
            Configuration::A | Configuration::C => false,
            Configuration::B => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for configuration in Configuration::ALL {
            assert_eq!(Configuration::try_from(configuration as u8), Ok(configuration));
            assert_eq!(Configuration::from_name(configuration.name()), Some(configuration));
        }
        assert_eq!(Configuration::try_from(3), Err(3));
        assert_eq!(Configuration::from_name("a"), None);
    }
}
