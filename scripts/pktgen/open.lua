-- Opens connections through a gateway: sends each SYN of port 0's file once, slowly, then
-- each SYN/ACK of port 1's file once. Afterwards `firstack stats` must show
--   tagged = CONNECTIONS on the inside, replica_won = CONNECTIONS on the outside,
-- and as many in the table's state `replica`. They live for 2 h 4 min after their last packet, so
-- the load may be another run of pktgen, with other files.
--
--   pktgen EAL... -- -P -T -m '1.0,2.1' -s 0:DIR/syn.pcap -s 1:DIR/synack.pcap -f open.lua
--
-- Run: Pktgen-DPDK 23.06.1 on DPDK 22.11.11 against `firstack run`, net_af_packet on veths,
-- configurations A, B and C (IP in IP and GUE), and A's counterpart copies.lua at a replica; under
-- C also with firstack on net_tap. It printed
--   port 0: 8192 of 8192 frames sent
--   port 1: 8192 of 8192 frames sent
-- and firstack counted tagged 8192, replica_won 8192.
-- Not run: on a NIC, and with more than 8192 connections.
local lib = dofile("lib.lua")
lib.main(function()
    lib.once("0", lib.connections)
    lib.once("1", lib.connections)
end)
