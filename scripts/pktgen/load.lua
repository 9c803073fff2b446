-- Sends the files of -s in a loop from both ports, for SECONDS_EACH, and prints each second what was
-- sent and received. The files determine the load; README.md lists them, with the counters that
-- `firstack stats` must show for each. INSIDE_RATE or OUTSIDE_RATE of 0 keeps a port silent.
--
--   pktgen EAL... -- -P -T -m '1.0,2.1' -s 0:DIR/up.pcap -s 1:DIR/down.pcap -f load.lua
--
-- Run: Pktgen-DPDK 23.06.1 on DPDK 22.11.11 against `firstack run`, net_af_packet on veths, by
-- scripts/pktgen/run, all of its workloads; established-c also with firstack on net_tap, and the
-- generator alone on net_null. One of 8192 connections under C printed
--     4 s: port 0 sends 32512, receives 32512; port 1 sends 32512, receives 32512 packets/s
--   port 0: 210560 sent, 210560 received, in all
--   port 1: 210560 sent, 210560 received, in all
-- and firstack counted to_replica 210560, from_replica 210560. These are the rates of a
-- kernel's veths, two busy CPUs and much else on them, not firstack's.
-- Not run: on a NIC, at any rate that a NIC has.
local lib = dofile("lib.lua")
lib.main(lib.load)
