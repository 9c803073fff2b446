//! The patent's configurations A, B and C. They are part of the wire format, because every tag
//! carries one.

use super::named_values;

named_values! {
    /// The way in which the gateway and the winner of a race exchange packets. Its number is the
    /// one in the tag (docs/protocol.md, 3.1).
    ///
    /// ```rust
    /// use pipeline::wire::configuration::Configuration;
    ///
    /// assert_eq!(Configuration::from_name("C"), Some(Configuration::C));
    /// assert_eq!(Configuration::try_from(1), Ok(Configuration::B));
    /// assert_eq!(Configuration::try_from(3), Err(3));
    /// assert!(Configuration::C.data_in_tunnels());
    /// ```
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
    /// Returns whether a replica's SYN/ACK, or its RST to refuse the connection, reaches the
    /// gateway in a tunnel (ops 442, 462).
    #[inline(always)]
    pub const fn syn_ack_in_tunnel(self) -> bool {
        match self {
            Configuration::A => false,
            Configuration::B | Configuration::C => true,
        }
    }

    /// Returns whether all packets after the SYN/ACK travel in tunnels, in both directions (ops
    /// 656, 658).
    #[inline(always)]
    pub const fn data_in_tunnels(self) -> bool {
        match self {
            Configuration::A | Configuration::B => false,
            Configuration::C => true,
        }
    }

    /// Returns whether the gateway looks up data without a tunnel from the outside, to translate
    /// the winner's or to drop a loser's. Under B the winner's data is forwarded unchanged (op
    /// 632).
    #[inline(always)]
    pub const fn replies_need_lookup(self) -> bool {
        match self {
            Configuration::A | Configuration::C => true,
            Configuration::B => false,
        }
    }

    /// Returns whether the replica changes a web server's packets on their way to the client.
    #[inline(always)]
    pub const fn replica_translates(self) -> bool {
        match self {
            Configuration::A => false,
            Configuration::B | Configuration::C => true,
        }
    }

    /// Returns whether the winner's data leaves without a tunnel and with the server's source
    /// address. A router's ICMP error about it then reaches the origin's site, and the switch has
    /// to forward it.
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
    fn numbers_and_names_convert_back() {
        for configuration in Configuration::ALL {
            assert_eq!(Configuration::try_from(configuration as u8), Ok(configuration));
            assert_eq!(Configuration::from_name(configuration.name()), Some(configuration));
        }
        assert_eq!(Configuration::try_from(3), Err(3));
        assert_eq!(Configuration::from_name("a"), None);
    }
}
