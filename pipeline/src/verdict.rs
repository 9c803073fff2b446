//! What can become of a packet: every verdict, its fate, its counter's name, and the
//! patent's operation or the section of docs/architecture.md that it comes from.
//!
//! A received packet gets exactly one verdict, so per port
//! `received = forwarded + consumed + dropped` holds whenever the worker is at rest.

/// Where a received packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent on, changed or not.
    Forwarded,
    /// Used up by the appliance itself.
    Consumed,
    /// Thrown away.
    Dropped,
}

impl Fate {
    /// All of them, in the order of their counters.
    pub const ALL: [Fate; 3] = [Fate::Forwarded, Fate::Consumed, Fate::Dropped];

    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Forwarded => "forwarded",
            Fate::Consumed => "consumed",
            Fate::Dropped => "dropped",
        }
    }
}

macro_rules! verdicts {
    ($($name:ident $fate:ident $text:literal $operation:literal $doc:literal;)*) => {
        /// What the pipeline decided for one received packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Verdict { $(#[doc = $doc] $name,)* }

        impl Verdict {
            /// All verdicts, in the order of their counters.
            pub const ALL: &[Verdict] = &[$(Verdict::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Where the packet went.
            #[inline(always)]
            pub fn fate(self) -> Fate {
                const FATES: [Fate; Verdict::COUNT] = [$(Fate::$fate,)*];
                FATES[self as usize]
            }

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self { $(Verdict::$name => $text,)* }
            }

            /// The patent's operations, such as "op 510"; empty where the patent is silent.
            pub fn operation(self) -> &'static str {
                match self { $(Verdict::$name => $operation,)* }
            }

            /// One line for an operator.
            pub fn meaning(self) -> &'static str {
                match self { $(Verdict::$name => $doc,)* }
            }
        }
    };
}

verdicts! {
    // What is nobody's business here, forwarded byte for byte.
    NonIp Forwarded "non_ip" "" "neither IPv4 nor IPv6: ARP and all else";
    Ipv6Extensions Forwarded "ipv6_extensions" "" "IPv6 whose extension headers are malformed, too many, or lead on to another destination";
    OtherProtocol Forwarded "other_protocol" "" "an IP protocol other than TCP";
    Icmp Forwarded "icmp" "" "ICMP that concerns no translated connection";
    Fragment Forwarded "fragment" "" "a fragment of a packet that is not translated";
    ForeignTunnel Forwarded "foreign_tunnel" "" "a tunnelled packet that is not addressed to the appliance";
    NoEntry Forwarded "no_entry" "op 616" "TCP of a connection that is not in the table";
    NoService Forwarded "no_service" "op 208" "a start packet that matches no service";
    EthernetTruncated Forwarded "ethernet_truncated" "" "shorter than an Ethernet header and its VLAN tags";
    IpTruncated Forwarded "ip_truncated" "" "shorter than the IP header";
    IpVersion Forwarded "ip_version" "" "the IP version contradicts the EtherType";
    IpHeaderLength Forwarded "ip_header_length" "" "an IP header length below 20 bytes";
    IpTotalLength Forwarded "ip_total_length" "" "an IP length below the header's or beyond the frame";
    TcpTruncated Forwarded "tcp_truncated" "" "shorter than the TCP header says";
    TcpDataOffset Forwarded "tcp_data_offset" "" "a TCP data offset below 5";

    // Gateway, from the inside.
    Tagged Forwarded "tagged" "op 210-214" "start packet tagged and sent to the server: the race is on";
    TaggedAgain Forwarded "tagged_again" "op 210-214" "repeated start packet of a race, tagged again";
    TaggedAnew Forwarded "tagged_anew" "op 210-214" "start packet with a new sequence number: a fresh race for its endpoint";
    UntaggedRepeat Forwarded "untagged_repeat" "op 214" "second repetition of a start packet, sent untagged in case the path drops the tag";
    UntaggedBackoff Forwarded "untagged_backoff" "op 214" "start packet to a destination whose path drops tagged ones";
    UntaggedNoRoom Forwarded "untagged_no_room" "op 214" "start packet whose options leave no room for the tag";
    UntaggedData Forwarded "untagged_data" "op 214" "start packet that carries data: it must not be delivered twice";
    UntaggedFastOpen Forwarded "untagged_fast_open" "op 214" "start packet with a TCP Fast Open option";
    UntaggedAlready Forwarded "untagged_already" "op 214" "start packet that came with a tag";
    UntaggedSigned Forwarded "untagged_signed" "op 214" "start packet with TCP MD5 or TCP-AO, whose signature a tag would break";
    UntaggedIpChecksum Forwarded "untagged_ip_checksum" "op 214" "start packet with a wrong IP checksum";
    UntaggedTcpChecksum Forwarded "untagged_tcp_checksum" "op 214" "start packet with a wrong TCP checksum";
    UntaggedOptions Forwarded "untagged_options" "op 214" "start packet with malformed options";
    UntaggedEndpointBusy Forwarded "untagged_endpoint_busy" "op 214" "start packet of a client endpoint that is live to another server";
    UntaggedTableFull Forwarded "untagged_table_full" "op 214" "start packet without a race because the table is full of established connections";
    UntaggedNoHeadroom Forwarded "untagged_no_headroom" "op 214" "start packet whose buffer has no room to grow";
    StartToWinner Forwarded "start_to_winner" "op 612, 636, 656" "start packet of a decided race, sent untagged to the winner alone";
    ToReplica Forwarded "to_replica" "op 612, 636, 656" "client to replica: destination rewritten (A, B), or tunnelled (C)";
    OtherServer Forwarded "other_server" "op 616" "client to another server than the one its entry is for";
    RaceUndecided Forwarded "race_undecided" "op 616" "a packet of a race without a winner";
    WithOrigin Forwarded "with_origin" "op 616" "a packet of a connection that the origin won";

    // Gateway, from the outside.
    OriginWon Forwarded "origin_won" "op 508, 516" "first acknowledgement, from the origin";
    ReplicaWon Forwarded "replica_won" "op 508-512, 542, 564" "first acknowledgement, from a replica: passed on as from the server";
    AcknowledgementRepeated Forwarded "acknowledgement_repeated" "op 512, 542, 564" "the winner's acknowledgement once more";
    ResetByOrigin Forwarded "reset_by_origin" "op 516" "the origin refused during the race: the race is over";
    FromReplica Forwarded "from_replica" "op 612, 632, 658" "replica to client: source rewritten (A), untouched (B), or cracked (C)";
    Passed Forwarded "passed" "op 632" "configuration B: a plain packet from the outside, passed without a look-up";
    FromOther Forwarded "from_other" "op 616" "to a client with an entry, from neither server nor winner";
    LoserReset Consumed "loser_reset" "op 514" "a loser's acknowledgement, answered by a reset";
    WrongAcknowledgement Dropped "wrong_acknowledgement" "op 504" "an acknowledgement of another sequence number";
    NotPermitted Dropped "not_permitted" "op 506" "an acknowledgement from outside the service's replica prefixes";
    WrongForm Dropped "wrong_form" "op 506" "an acknowledgement that is not in the form of the gateway's configuration";
    NotAuthentic Dropped "not_authentic" "op 658" "tunnelled as from the server, but the outer source or the port is not the winner's";
    TooBig Consumed "too_big" "op 656" "a packet that its tunnel has no room for: answered by an ICMP error";
    TooBigUnanswered Dropped "too_big_unanswered" "op 656" "a packet that its tunnel has no room for: its ICMP error is over the limit, or could not be made";
    Fragmented Consumed "fragmented" "op 656" "a packet that its tunnel has no room for, sent in fragments";
    ResetByReplica Dropped "reset_by_replica" "op 504" "a replica refused that has not won";
    FromLoser Dropped "from_loser" "op 606" "plain packet from the server of a connection that a replica won";
    AcknowledgementIpChecksum Dropped "acknowledgement_ip_checksum" "" "an acknowledgement with a wrong IP checksum";
    AcknowledgementTcpChecksum Dropped "acknowledgement_tcp_checksum" "" "an acknowledgement with a wrong TCP checksum";

    // ICMP errors and fragments of translated connections.
    IcmpTranslated Forwarded "icmp_translated" "" "ICMP error about a translated packet, translated with what it quotes";
    FragmentTranslated Forwarded "fragment_translated" "" "fragment of a translated connection, translated";
    FragmentUnknown Dropped "fragment_unknown" "" "later fragment between addresses that may be translated; its first was not seen";

    // Switch.
    FannedOut Forwarded "fanned_out" "op 310-314" "tagged start packet copied to the replicas; itself, untagged, to a server";
    NotFannedOut Forwarded "not_fanned_out" "op 310, 314" "tagged start packet without copies: redirection not permitted, content not replicable, or data in it";
    NotSigned Forwarded "not_signed" "op 308, 314" "tagged start packet without copies: its tag is not signed, and has to be";
    BadSignature Forwarded "bad_signature" "op 308, 314" "tagged start packet without copies: its signature is wrong, or made with an unknown key";
    GatewayStranger Forwarded "gateway_stranger" "op 308, 314" "tagged start packet without copies: its client is behind no permitted gateway";
    NoReplica Forwarded "no_replica" "op 312, 314" "tagged start packet of a service without a live replica";
    FanOutLimited Forwarded "fan_out_limited" "op 314" "tagged start packet without copies: its source prefix has spent its share";
    ToServer Forwarded "to_server" "op 314" "to the service: sent to the selected server";
    IcmpToServer Forwarded "icmp_to_server" "op 314" "ICMP error about a packet of a server: sent to that server";
    FragmentToServer Forwarded "fragment_to_server" "op 314" "fragment to a service: sent to the selected server";
    FromServer Forwarded "from_server" "" "from the inside, untouched";
    ProbeReturned Consumed "probe_returned" "" "a replica's answer to a probe of its tunnel";
    Held Consumed "held" "" "waits for its server's MAC address to become known";
    NoServer Dropped "no_server" "op 314" "to a service none of whose servers is enabled";
    TagIpChecksum Dropped "tag_ip_checksum" "" "tagged start packet with a wrong IP checksum";
    TagTcpChecksum Dropped "tag_tcp_checksum" "" "tagged start packet with a wrong TCP checksum";
    BadTag Dropped "bad_tag" "op 308" "a tag of another length than its flags say";

    // Replica.
    Cracked Forwarded "cracked" "op 410, 412" "start packet copy cracked and given to a web server";
    CrackedAgain Forwarded "cracked_again" "op 410, 412" "repeated copy of a start packet, cracked for the same web server";
    CrackedAnew Forwarded "cracked_anew" "op 410" "start packet copy of a client endpoint that has a connection here: given to its web server, whose answer decides";
    ToWebServer Forwarded "to_web_server" "" "from the gateway to a web server: untouched (A, B), or cracked (C)";
    FromWebServer Forwarded "from_web_server" "op 412, 442, 462" "from a web server to the client: untouched (A), source rewritten (B), or tunnelled (C)";
    ArpAnswered Consumed "arp_answered" "" "ARP request or neighbour solicitation for an address of the appliance, answered";
    ArpLearned Consumed "arp_learned" "" "ARP reply or neighbour advertisement to a probe of the appliance";
    ProbeAnswered Consumed "probe_answered" "" "a switch's probe of its tunnel, answered";
    ProbeIgnored Consumed "probe_ignored" "op 404" "a switch's probe of its tunnel, left unanswered: the replica is dead or drained";
    AcknowledgementUnasked Dropped "acknowledgement_unasked" "op 412, 442, 462" "a web server repeats its acknowledgement, unasked: it would go to a spoofed client too";
    Dead Dropped "dead" "op 404" "start packet copy while the replica is dead or drained";
    Busy Dropped "busy" "op 406, 408" "start packet copy while the replica is busy";
    TunnelStranger Dropped "tunnel_stranger" "op 402" "tunnelled packet from a peer that is not permitted";
    TunnelMalformed Dropped "tunnel_malformed" "op 402" "tunnelled packet whose header or inner packet is malformed";
    TunnelChecksum Dropped "tunnel_checksum" "op 402" "tunnelled packet with a wrong outer IP or UDP checksum";
    TunnelInnerChecksum Dropped "tunnel_inner_checksum" "op 402" "tunnelled packet with a wrong inner IP or TCP checksum";
    TunnelNested Dropped "tunnel_nested" "op 402" "a tunnel within a tunnel";
    TunnelCongestion Dropped "tunnel_congestion" "" "congestion experienced outside, inside not ECN-capable (RFC 6040)";
    TunnelOtherProtocol Dropped "tunnel_other_protocol" "op 402" "tunnelled packet that is neither TCP nor ICMP";
    TunnelNotStart Dropped "tunnel_not_start" "op 402" "tunnelled packet of a switch that is no start packet";
    TunnelIcmp Dropped "tunnel_icmp" "" "tunnelled ICMP that concerns no connection here";
    TunnelData Dropped "tunnel_data" "op 402" "tunnelled start packet with data in it: it must not be delivered twice";
    TunnelNotTagged Dropped "tunnel_not_tagged" "op 402" "tunnelled start packet without a tag that permits redirection";
    TunnelNotService Dropped "tunnel_not_service" "op 402" "start packet copy for a service this replica does not hold";
    TunnelConfiguration Dropped "tunnel_configuration" "op 410" "start packet copy of an unknown configuration";
    TunnelNotSigned Dropped "tunnel_not_signed" "op 402" "start packet copy whose tag is not signed, and has to be";
    TunnelBadSignature Dropped "tunnel_bad_signature" "op 402" "start packet copy whose tag's signature is wrong, or made with an unknown key";
    ClientStranger Dropped "client_stranger" "op 402" "start packet copy of a client behind no permitted gateway";
    EndpointLive Dropped "endpoint_live" "op 402" "start packet copy of a client endpoint that has a connection here to another server, or at another web server";
    NeighbourUnresolved Dropped "neighbour_unresolved" "" "a packet whose server's MAC address is not known, and that the queue has no room for";

    // Resources.
    NoBuffer Dropped "no_buffer" "" "the pool had no buffer, or the buffer or length field no room, for what had to be made";
    HandoffFull Dropped "handoff_full" "" "the queue to the worker that owns the connection was full";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_indices_follow_the_order() {
        let mut names: Vec<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verdict::COUNT);
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
        }
    }
}
