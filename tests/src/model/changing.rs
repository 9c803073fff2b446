//! What becomes of packets that are ours.

use pipeline::verdict::Verdict;

/// The verdicts that change a packet that is forwarded, always or at some server. With any other it
/// leaves byte for byte.
pub const CHANGING: &[Verdict] = &[
    Verdict::Tagged,
    Verdict::TaggedRetransmit,
    Verdict::TaggedNewIsn,
    // The MSS under C, while copies are tagged and the SYN is not.
    Verdict::UntaggedBackoff,
    Verdict::UntaggedRetransmit,
    Verdict::SynToWinner,
    Verdict::ToReplica,
    Verdict::ReplicaWon,
    Verdict::SynAckRetransmit,
    Verdict::FromReplica,
    Verdict::IcmpTranslated,
    Verdict::FragmentTranslated,
    Verdict::FannedOut,
    Verdict::NotFannedOut,
    Verdict::NotSigned,
    Verdict::BadSignature,
    Verdict::ClientNotAllowed,
    Verdict::NoReplica,
    Verdict::NoCopiesWanted,
    Verdict::FanOutLimited,
    Verdict::ToServer,
    Verdict::IcmpToServer,
    Verdict::FragmentToServer,
    // The MSS of an acknowledgement, where servers are tunnelled to.
    Verdict::FromServer,
    Verdict::CopyAccepted,
    Verdict::CopyRetransmit,
    Verdict::CopyNewIsn,
    Verdict::ToWebServer,
    Verdict::FromWebServer,
];
