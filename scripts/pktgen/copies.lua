-- Opens connections at a replica: sends each copy of port 1's file once, slowly, then
-- each SYN/ACK of the web server, port 0's file, once. Afterwards `firstack stats` must show
--   copy_accepted = CONNECTIONS on the outside, from_web_server = CONNECTIONS on the inside.
--
--   pktgen EAL... -- -P -T -m '1.0,2.1' -s 0:DIR/web.pcap -s 1:DIR/copies.pcap -f copies.lua
--
-- Run: Pktgen-DPDK 23.06.1 on DPDK 22.11.11 against `firstack run`, net_af_packet on veths. It
-- printed
--   port 1: 8192 of 8192 frames sent
--   port 0: 8192 of 8192 frames sent
-- and firstack counted copy_accepted 8192, from_web_server 8192. Not run: on a NIC.
local lib = dofile("lib.lua")
lib.main(function()
    lib.once("1", lib.connections)
    lib.once("0", lib.connections)
end)
