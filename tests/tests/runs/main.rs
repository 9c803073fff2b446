//! `firstack run` over capture files (DPDK's net_pcap, no hugepages) and over veth pairs against
//! `firstack replay`, and with several workers against one: the same packets leave, of each
//! connection in the same order; none vanishes; the process ends as it should.
//!
//! A worker looks at the inside first and takes up to 32 packets from each side in turn: the replay
//! that a run over files is compared with is given the packets in that order, each round a little
//! later than the one before. What comes in of a scenario is one round, the inside before the
//! outside. With several workers the order of the two sides is certain for the first round alone,
//! for what is handed over of both waits in one batch.

mod bad_input;
mod connections;
mod forms;
mod harness;
mod scenarios;
mod start;
mod veths;
mod workers;
