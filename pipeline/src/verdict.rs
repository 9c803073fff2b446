//! Every outcome a received packet can have, in one place: name, fate, roles, the patent's
//! operations, and the line an operator reads.
//!
//! A received packet gets exactly one verdict, so `received = forwarded + consumed + dropped` holds
//! on each side whenever the worker is at rest.

/// Where a received packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent by the other side, changed or not.
    Forwarded,
    /// Used up by the appliance itself.
    Consumed,
    /// Discarded.
    Dropped,
}

impl Fate {
    /// All fates, in the order of their counters.
    pub const ALL: [Fate; 3] = [Fate::Forwarded, Fate::Consumed, Fate::Dropped];

    /// Returns the counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Forwarded => "forwarded",
            Fate::Consumed => "consumed",
            Fate::Dropped => "dropped",
        }
    }
}

/// A set of roles: which of them can give a verdict, or have a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// The gateway.
    pub const GATEWAY: Self = Self(1);
    /// The switch.
    pub const SWITCH: Self = Self(2);
    /// The replica.
    pub const REPLICA: Self = Self(4);
    /// Switch and replica.
    pub const SERVER_SIDE: Self = Self(2 | 4);
    /// Gateway and replica.
    pub const TRANSLATORS: Self = Self(1 | 4);
    /// Gateway and switch.
    pub const TUNNEL_HEADS: Self = Self(1 | 2);
    /// All three.
    pub const ALL: Self = Self(1 | 2 | 4);

    /// Returns whether this set has a role in common with another.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the roles' names, in the order gateway, switch, replica.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let roles =
            [(Self::GATEWAY, "gateway"), (Self::SWITCH, "switch"), (Self::REPLICA, "replica")];
        roles.into_iter().filter(move |(role, _)| self.has(*role)).map(|(_, name)| name)
    }
}

macro_rules! verdicts {
    ($($name:ident $fate:ident $roles:ident $text:literal $operation:literal $doc:literal;)*) => {
        /// What the pipeline decided for one received packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Verdict { $(#[doc = $doc] $name,)* }

        impl Verdict {
            /// All verdicts, in the order of their counters.
            pub const ALL: &[Verdict] = &[$(Verdict::$name,)*];
            /// The number of verdicts.
            pub const COUNT: usize = Self::ALL.len();

            /// Returns where the packet went.
            #[inline(always)]
            pub fn fate(self) -> Fate {
                const FATES: [Fate; Verdict::COUNT] = [$(Fate::$fate,)*];
                FATES[self as usize]
            }

            /// Returns the roles that give this verdict.
            pub fn roles(self) -> Roles {
                match self { $(Verdict::$name => Roles::$roles,)* }
            }

            /// Returns the counter's name, which is unique within a role: a fault that forwards at
            /// the switch and drops at the replica has one name and two verdicts.
            pub fn name(self) -> &'static str {
                match self { $(Verdict::$name => $text,)* }
            }

            /// Returns the patent's operations, such as "op 510"; empty where the patent is silent.
            pub fn operation(self) -> &'static str {
                match self { $(Verdict::$name => $operation,)* }
            }

            /// Returns one line for an operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Verdict::$name => $doc,)* }
            }
        }
    };
}

verdicts! {
    // Traffic that firstack does not handle, forwarded byte for byte.
    NonIp Forwarded ALL "non_ip" "" "neither IPv4 nor IPv6: ARP and everything else";
    Ipv6Extensions Forwarded ALL "ipv6_extensions" "" "IPv6 with extension headers that are malformed, too many, or route to another destination";
    OtherProtocol Forwarded ALL "other_protocol" "" "an IP protocol other than TCP";
    Icmp Forwarded ALL "icmp" "" "ICMP that concerns no translated connection";
    Fragment Forwarded ALL "fragment" "" "a fragment of a packet that is not translated";
    ForeignTunnel Forwarded ALL "foreign_tunnel" "" "a tunnelled packet that is not addressed to the appliance";
    NoEntry Forwarded TRANSLATORS "no_entry" "op 616" "TCP of a connection that is not in the table";
    NoService Forwarded TUNNEL_HEADS "no_service" "op 208" "a SYN, or at the switch any TCP packet, that matches no service";
    EthernetTruncated Forwarded ALL "ethernet_truncated" "" "shorter than an Ethernet header and its VLAN tags";
    IpTruncated Forwarded ALL "ip_truncated" "" "shorter than the IP header";
    IpVersion Forwarded ALL "ip_version" "" "the IP version contradicts the EtherType";
    IpHeaderLength Forwarded ALL "ip_header_length" "" "an IP header length below 20 bytes";
    IpTotalLength Forwarded ALL "ip_total_length" "" "an IP length below the header's";
    FrameCut Forwarded ALL "frame_cut" "" "an IP length beyond the frame: the port, or a device before it, has cut the frame";
    TcpTruncated Forwarded ALL "tcp_truncated" "" "shorter than the TCP header says";
    TcpDataOffset Forwarded ALL "tcp_data_offset" "" "a TCP data offset below 5";

    // Gateway, from the inside.
    Tagged Forwarded GATEWAY "tagged" "op 210, 212, 214" "SYN tagged and forwarded to the server: a race begins";
    TaggedRetransmit Forwarded GATEWAY "tagged_retransmit" "op 210, 214" "first retransmission of a SYN during its race, tagged again";
    TaggedNewIsn Forwarded GATEWAY "tagged_new_isn" "op 210, 212, 214" "SYN with a new sequence number: a fresh race for its endpoint";
    UntaggedRetransmit Forwarded GATEWAY "untagged_retransmit" "op 214" "second or later retransmission of a SYN, forwarded untagged in case the path drops tags";
    UntaggedBackoff Forwarded GATEWAY "untagged_backoff" "op 214" "SYN to a destination whose path drops tagged SYNs";
    UntaggedClientNotAllowed Forwarded GATEWAY "untagged_client_not_allowed" "op 208, 214" "SYN to a service from a client that is not in allowed_clients";
    UntaggedNoOptionSpace Forwarded GATEWAY "untagged_no_option_space" "op 214" "SYN whose options leave no space for the tag";
    UntaggedData Forwarded GATEWAY "untagged_data" "op 214" "SYN that carries data, which must not be delivered twice";
    UntaggedFastOpen Forwarded GATEWAY "untagged_fast_open" "op 214" "SYN with a TCP Fast Open option";
    UntaggedMpJoin Forwarded GATEWAY "untagged_mp_join" "op 214" "SYN that joins an MPTCP connection, which only its server knows";
    UntaggedAlreadyTagged Forwarded GATEWAY "untagged_already_tagged" "op 214" "SYN that arrived with a tag";
    UntaggedTcpAuth Forwarded GATEWAY "untagged_tcp_auth" "op 214" "SYN with TCP MD5 or TCP-AO, whose signature a tag would break";
    UntaggedIpChecksum Forwarded GATEWAY "untagged_ip_checksum" "op 214" "SYN with a wrong IP checksum";
    UntaggedTcpChecksum Forwarded GATEWAY "untagged_tcp_checksum" "op 214" "SYN with a wrong TCP checksum";
    UntaggedOptions Forwarded GATEWAY "untagged_options" "op 214" "SYN with malformed options";
    UntaggedEndpointInUse Forwarded GATEWAY "untagged_endpoint_in_use" "op 214" "SYN of a client endpoint that has a live connection to another server";
    UntaggedTableFull Forwarded GATEWAY "untagged_table_full" "op 214" "SYN without a race because the table is full of established connections, or its client's prefix has its share of it";
    UntaggedNoHeadroom Forwarded GATEWAY "untagged_no_headroom" "op 214" "SYN whose buffer has no headroom for the tag";
    LeftToOrigin Forwarded GATEWAY "left_to_origin" "op 214" "SYN that is not raced: the origin is nearest, or the client's last connection went there";
    UntaggedDrained Forwarded GATEWAY "untagged_drained" "op 214" "SYN that is not raced: an operator has drained its service, or the gateway";
    SynDeferred Consumed GATEWAY "syn_deferred" "op 214" "SYN sent to replicas directly; the one to the origin waits for `origin_after`";
    SynToWinner Forwarded GATEWAY "syn_to_winner" "op 612, 636, 656" "SYN of a decided race, sent untagged to the winner alone";
    ToReplica Forwarded GATEWAY "to_replica" "op 612, 636, 656" "client to replica: destination rewritten (A, B), or tunnelled (C)";
    OtherServer Forwarded GATEWAY "other_server" "op 616" "client to another server than the one of its entry";
    RaceUndecided Forwarded GATEWAY "race_undecided" "op 616" "a packet of a race without a winner";
    AnsweredElsewhere Forwarded GATEWAY "answered_elsewhere" "op 516" "ACK of the client during a race: the origin has answered by another way, and has won";
    ConnectionLost Forwarded GATEWAY "connection_lost" "op 616" "a packet that shows that an entry is lost, here or at the winner's appliance: both ends are reset";
    WithOrigin Forwarded GATEWAY "with_origin" "op 616" "a packet of a connection that the origin won";

    // Gateway, from the outside.
    OriginWon Forwarded GATEWAY "origin_won" "op 508, 516" "first SYN/ACK, from the origin";
    ReplicaWon Forwarded GATEWAY "replica_won" "op 508, 510, 512, 542, 564" "first SYN/ACK, from a replica: forwarded as from the server";
    SynAckRetransmit Forwarded GATEWAY "syn_ack_retransmit" "op 512, 542, 564" "the winner's SYN/ACK once more";
    ResetByOrigin Forwarded GATEWAY "reset_by_origin" "op 516" "the origin refused during the race: the race is over";
    FromReplica Forwarded GATEWAY "from_replica" "op 612, 632, 658" "replica to client: source rewritten (A), untouched (B), or decapsulated (C)";
    Passed Forwarded GATEWAY "passed" "op 632" "configuration B: a plain packet from the outside, forwarded without a lookup";
    FromOther Forwarded GATEWAY "from_other" "op 616" "to a client with an entry, from neither server nor winner: another connection's";
    UnlistedReplica Forwarded GATEWAY "unlisted_replica" "op 506" "a plain SYN/ACK that acknowledges the entry's SYN, of a sender that is not allowed as a replica, untouched";
    SynAckHeld Consumed GATEWAY "syn_ack_held" "op 504" "a SYN/ACK that waits for its handicap, or for the replica that the client had";
    ShadowReset Consumed GATEWAY "shadow_reset" "op 514" "a replica's SYN/ACK in a race that a shadow lets the origin win, answered with a reset";
    LoserReset Consumed GATEWAY "loser_reset" "op 514" "a loser's SYN/ACK, answered with a reset";
    SynAckWrongNumber Dropped GATEWAY "syn_ack_wrong_number" "op 504" "a tunnelled SYN/ACK, or one of the server in a connection that a replica won, that acknowledges another sequence number";
    ReplicaNotAllowed Dropped GATEWAY "replica_not_allowed" "op 506" "a tunnelled SYN/ACK of a sender that is not allowed as a replica";
    ConfigurationMismatch Dropped GATEWAY "configuration_mismatch" "op 506" "a SYN/ACK, or a tunnelled packet, in the form of another configuration than the gateway's";
    TunnelSpoofed Dropped GATEWAY "tunnel_spoofed" "op 658" "tunnelled as from the server, but the outer source or the port is not the winner's";
    TooBig Consumed ALL "too_big" "op 656" "a packet larger than its tunnel's inner MTU, answered with an ICMP error";
    TooBigDropped Dropped ALL "too_big_dropped" "op 656" "a packet larger than its tunnel's inner MTU; the ICMP error exceeds the limit, or could not be made";
    Fragmented Consumed ALL "fragmented" "op 656" "a packet larger than its tunnel's inner MTU, sent in fragments";
    ResetByReplica Dropped GATEWAY "reset_by_replica" "op 504" "a refusal by a replica that has not won";
    FromLoser Dropped GATEWAY "from_loser" "op 606" "plain packet from the server of a connection that a replica won";
    SynAckIpChecksum Dropped GATEWAY "syn_ack_ip_checksum" "" "a SYN/ACK with a wrong IP checksum";
    SynAckTcpChecksum Dropped GATEWAY "syn_ack_tcp_checksum" "" "a SYN/ACK with a wrong TCP checksum";

    // ICMP errors and fragments of translated connections.
    IcmpTranslated Forwarded ALL "icmp_translated" "" "ICMP error about a translated or tunnelled packet, translated with what it quotes";
    IcmpTagStripped Forwarded GATEWAY "icmp_tag_stripped" "" "ICMP error about a tagged SYN, which it quotes without the tag then";
    IcmpDirectCopy Dropped GATEWAY "icmp_direct_copy" "" "ICMP error about a direct copy, which the client did not send";
    FragmentTranslated Forwarded TRANSLATORS "fragment_translated" "" "fragment of a translated connection, translated";
    FragmentUnknown Dropped TRANSLATORS "fragment_unknown" "" "later fragment between addresses that may be translated, whose first fragment was not seen";

    // Switch.
    FannedOut Forwarded SWITCH "fanned_out" "op 310, 312, 314" "tagged SYN copied to the replicas; the SYN itself, untagged, to a server";
    NotFannedOut Forwarded SWITCH "not_fanned_out" "op 310, 314" "tagged SYN without copies: redirection not permitted, content not replicable, data in it, or a TTL of 0";
    NotSigned Forwarded SWITCH "not_signed" "op 308, 314" "tagged SYN without copies: its tag is not signed, and must be";
    BadSignature Forwarded SWITCH "bad_signature" "op 308, 314" "tagged SYN without copies: its signature is wrong, of another time, or made with an unknown key";
    Replayed Forwarded SWITCH "replayed" "op 308, 314" "tagged SYN without copies: its signature has passed as often as one may";
    ClientNotAllowed Forwarded SWITCH "client_not_allowed" "op 308, 314" "tagged SYN without copies: its client is not in allowed_clients";
    Drained Forwarded SWITCH "drained" "op 312, 314" "tagged SYN without copies: an operator has drained its service, or the switch";
    NoReplica Forwarded SWITCH "no_replica" "op 312, 314" "tagged SYN of a service without a live replica";
    NoCopiesWanted Forwarded SWITCH "no_copies_wanted" "op 308, 314" "tagged SYN whose tag asks for no copies";
    FanOutLimited Forwarded SWITCH "fan_out_limited" "op 314" "tagged SYN without copies: its source prefix has used up its share";
    ToServer Forwarded SWITCH "to_server" "op 314" "to the service: sent to the selected server";
    IcmpToServer Forwarded SWITCH "icmp_to_server" "op 314" "ICMP error about a server's packet, sent to that server";
    FragmentToServer Forwarded SWITCH "fragment_to_server" "op 314" "fragment to a service, sent to the selected server";
    FromServer Forwarded SWITCH "from_server" "" "from the inside, untouched";
    ProbeReturned Consumed SWITCH "probe_returned" "" "a replica's answer to a probe of its tunnel";
    Pending Consumed SERVER_SIDE "pending" "" "pending until its server's MAC address is known";
    NoServer Dropped SWITCH "no_server" "op 314" "to a service none of whose servers is available";
    TagIpChecksum Dropped SWITCH "tag_ip_checksum" "" "tagged SYN with a wrong IP checksum";
    TagTcpChecksum Dropped SWITCH "tag_tcp_checksum" "" "tagged SYN with a wrong TCP checksum";
    BadTag Dropped SERVER_SIDE "bad_tag" "op 308" "a tag of another length than its flags say";

    // Replica.
    CopyAccepted Forwarded REPLICA "copy_accepted" "op 410, 412" "SYN copy decapsulated and given to a web server";
    CopyRetransmit Forwarded REPLICA "copy_retransmit" "op 410, 412" "repeated SYN copy, given to the same web server";
    CopyNewIsn Forwarded REPLICA "copy_new_isn" "op 410" "SYN copy of a client endpoint that has a connection here: given to its web server, whose answer decides";
    ToWebServer Forwarded REPLICA "to_web_server" "" "from the gateway to a web server: untouched (A, B), or decapsulated (C)";
    FromWebServer Forwarded REPLICA "from_web_server" "op 412, 442, 462" "from a web server to the client: untouched (A), source rewritten (B), or tunnelled (C)";
    NeighbourAnswered Consumed SERVER_SIDE "neighbour_answered" "" "ARP request or neighbour solicitation for an address of the appliance, answered";
    NeighbourLearned Consumed SERVER_SIDE "neighbour_learned" "" "ARP reply or neighbour advertisement for a probe of the appliance";
    ProbeAnswered Consumed REPLICA "probe_answered" "" "a switch's probe of its tunnel, answered";
    ProbeIgnored Consumed REPLICA "probe_ignored" "op 404" "a switch's probe of its tunnel, not answered: the replica is out of service";
    SynAckUnsolicited Dropped REPLICA "syn_ack_unsolicited" "op 412, 442, 462" "a web server retransmits its SYN/ACK unsolicited: it would reach a spoofed client, too";
    TunnelReset Consumed REPLICA "tunnel_reset" "" "a gateway's tunnel of a connection that is not known here: both ends are reset";
    CopyDuplicate Dropped REPLICA "copy_duplicate" "op 402" "SYN copy of a SYN that its web server was given less than half a second before";
    OutOfService Dropped REPLICA "out_of_service" "op 404" "SYN copy while the replica is out of service";
    Busy Dropped REPLICA "busy" "op 406, 408" "SYN copy while the replica is busy";
    PeerNotAllowed Dropped REPLICA "peer_not_allowed" "op 402" "tunnelled packet from a peer that is not in switches";
    TunnelMalformed Dropped TRANSLATORS "tunnel_malformed" "op 402" "tunnelled packet with a malformed header or inner packet";
    TunnelChecksum Dropped TRANSLATORS "tunnel_checksum" "op 402" "tunnelled packet with a wrong outer IP or UDP checksum";
    TunnelInnerChecksum Dropped TRANSLATORS "tunnel_inner_checksum" "op 402" "tunnelled packet with a wrong inner IP or TCP checksum";
    TunnelNested Dropped TRANSLATORS "tunnel_nested" "op 402" "a tunnel within a tunnel";
    TunnelCongestion Dropped TRANSLATORS "tunnel_congestion" "" "congestion experienced outside, inside not ECN-capable (RFC 6040)";
    TunnelHopLimit Dropped ALL "tunnel_hop_limit" "" "packet for a tunnel, or out of one, with a TTL or hop limit of 0, which must not be sent on (RFC 2003, RFC 8200)";
    TunnelOtherProtocol Dropped TRANSLATORS "tunnel_other_protocol" "op 402" "tunnelled packet that is neither TCP nor ICMP";
    CopyNotSyn Dropped REPLICA "copy_not_syn" "op 402" "tunnelled packet of a switch that is no SYN";
    TunnelIcmp Dropped REPLICA "tunnel_icmp" "" "tunnelled ICMP that concerns no connection here";
    CopyData Dropped REPLICA "copy_data" "op 402" "SYN copy with data in it, which must not be delivered twice";
    CopyNotTagged Dropped REPLICA "copy_not_tagged" "op 402" "SYN copy without a tag that permits redirection";
    CopyNoService Dropped REPLICA "copy_no_service" "op 402" "SYN copy for a service that this replica does not have";
    CopyUnknownConfiguration Dropped REPLICA "copy_unknown_configuration" "op 410" "SYN copy of an unknown configuration";
    CopyNotSigned Dropped REPLICA "not_signed" "op 402" "SYN copy whose tag is not signed, and must be";
    CopyBadSignature Dropped REPLICA "bad_signature" "op 402" "SYN copy whose tag's signature is wrong, of another time, or made with an unknown key";
    CopyReplayed Dropped REPLICA "replayed" "op 402" "SYN copy whose tag's signature has passed as often as one may";
    CopyClientNotAllowed Dropped REPLICA "client_not_allowed" "op 402" "SYN copy of a client that is not in allowed_clients";
    CopyClientMartian Dropped REPLICA "client_martian" "op 402" "SYN copy from an address that no client has: not unicast, or a service's, a web server's or the appliance's own";
    CopyRetransmitLimit Dropped REPLICA "copy_retransmit_limit" "op 402" "repeated SYN copy of a connection that has had eight of them";
    CopyEndpointInUse Dropped REPLICA "copy_endpoint_in_use" "op 402" "SYN copy of a client endpoint that has a live connection here to another server, or at another web server";
    NeighbourUnresolved Dropped SERVER_SIDE "neighbour_unresolved" "" "a packet whose server's MAC address is not known, and that does not fit the pending queue";

    // Resources.
    NoBuffer Dropped ALL "no_buffer" "" "no buffer in the pool, or no room in the buffer or length field, for what had to be made";
    HandoffFull Dropped ALL "handoff_full" "" "the queue to the worker that owns the connection was full";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_within_a_role_and_indices_follow_the_order() {
        for role in [Roles::GATEWAY, Roles::SWITCH, Roles::REPLICA] {
            let own = || Verdict::ALL.iter().filter(|verdict| verdict.roles().has(role));
            let mut names: Vec<_> = own().map(|verdict| verdict.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), own().count());
        }
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
        }
    }

    #[test]
    fn operations_are_listed_one_by_one() {
        for verdict in Verdict::ALL {
            assert!(!verdict.operation().contains('-'), "{}", verdict.operation());
        }
    }

    #[test]
    fn roles_are_named_in_order() {
        assert_eq!(Roles::SERVER_SIDE.names().collect::<Vec<_>>(), ["switch", "replica"]);
        assert!(Roles::ALL.has(Roles::SWITCH) && !Roles::TRANSLATORS.has(Roles::SWITCH));
    }
}
