-- Wireshark dissectors for firstack's wire protocol (docs/protocol.md).
--
-- The tag: a TCP option in a SYN that requests a race (section 3), plain or in any tunnel format:
--
--   kind  length  ExID (2 bytes)  flags  [key id  MAC (8 bytes)]
--
-- GUE variant 0 on UDP port 6080 (section 4.1), which Wireshark does not decode, and its inner packet:
--
--   variant (2 bits)  C (1 bit)  header length (5 bits)  protocol  flags (2 bytes)
--
-- Use: wireshark -X lua_script:firstack.lua, or copy this file to the personal Lua plugins folder.
-- Display filters: firstack, firstack.configuration == 0, firstack.permitted == false,
-- firstack.copies == 1, firstack.bad, firstack_gue, firstack_gue.bad

local firstack = Proto("firstack", "firstack race tag")

local configurations = { [0] = "A (full NAT)", [1] = "B (one-way NAT)", [2] = "C (tunnel)", [3] = "unknown" }
local copies = { [0] = "all", [15] = "none" }
for count = 1, 14 do copies[count] = "at most" end
local fields = firstack.fields
fields.permitted = ProtoField.bool("firstack.permitted", "Redirection permitted")
fields.configuration = ProtoField.uint8("firstack.configuration", "Configuration", base.DEC, configurations)
fields.copies = ProtoField.uint8("firstack.copies", "Copies wanted", base.DEC, copies)
fields.signed = ProtoField.bool("firstack.signed", "Signed")
fields.key = ProtoField.uint8("firstack.key", "Key id")
fields.mac = ProtoField.uint64("firstack.mac", "MAC", base.HEX)
local bad = ProtoExpert.new("firstack.bad", "Length and flags disagree", expert.group.MALFORMED, expert.severity.ERROR)
firstack.experts = { bad }

firstack.prefs.kind = Pref.uint("Option kind", 253, "TCP option kind of the tag")
firstack.prefs.exid = Pref.uint("ExID", 0x4E52, "Experiment identifier of the tag")

local tcp_options = Field.new("tcp.options")

-- Adds the tag in `option`, a range over the whole option, to the tree.
local function show(option, tree, info)
    local length = option:len()
    local flags = length > 4 and option(4, 1):uint() or 0
    local signed = bit.band(flags, 0x80) ~= 0
    local branch = tree:add(firstack, option)
    if not ((length == 5 and not signed) or (length == 14 and signed)) then
        branch:add_proto_expert_info(bad)
        return
    end
    local byte = option(4, 1)
    local configuration = bit.band(bit.rshift(flags, 1), 3)
    branch:add(fields.permitted, byte, bit.band(flags, 1) ~= 0)
    branch:add(fields.configuration, byte, configuration)
    branch:add(fields.copies, byte, bit.band(bit.rshift(flags, 3), 15))
    branch:add(fields.signed, byte, signed)
    if signed then
        branch:add(fields.key, option(5, 1))
        branch:add(fields.mac, option(6, 8))
    end
    info:append(" [race tag " .. string.sub("ABC?", configuration + 1, configuration + 1) .. "]")
end

function firstack.dissector(_, packet, tree)
    for _, options in ipairs({ tcp_options() }) do
        local area, at = options.range, 0
        while at < area:len() do
            local kind = area(at, 1):uint()
            if kind == 0 then break end
            local length = 1
            if kind ~= 1 then
                if at + 1 >= area:len() then break end
                length = area(at + 1, 1):uint()
                if length < 2 or at + length > area:len() then break end
                if kind == firstack.prefs.kind and length >= 4
                    and area(at + 2, 2):uint() == firstack.prefs.exid then
                    show(area(at, length), tree, packet.cols.info)
                end
            end
            at = at + length
        end
    end
end

register_postdissector(firstack)

local GUE_PORT = 6080
local GUE_HEADER = 4
local inner_protocols = { [4] = "IPv4", [41] = "IPv6" }

local gue = Proto("firstack_gue", "Generic UDP Encapsulation, variant 0")
gue.fields.variant = ProtoField.uint8("firstack_gue.variant", "Variant", base.DEC, nil, 0xc0)
gue.fields.control = ProtoField.bool("firstack_gue.control", "Control message", 8, nil, 0x20)
gue.fields.length = ProtoField.uint8("firstack_gue.length", "Optional header, in words", base.DEC, nil, 0x1f)
gue.fields.protocol = ProtoField.uint8("firstack_gue.protocol", "Protocol", base.DEC, inner_protocols)
gue.fields.flags = ProtoField.uint16("firstack_gue.flags", "Flags", base.HEX)
local gue_fields = gue.fields
local gue_bad = ProtoExpert.new("firstack_gue.bad", "Not a tunnel of firstack", expert.group.MALFORMED,
    expert.severity.ERROR)
gue.experts = { gue_bad }

-- Returns why a firstack receiver does not accept this GUE header, or nil if it does (section 4.3).
local function obstacle(header, datagram)
    local protocol = header(1, 1):uint()
    if header(0, 1):bitfield(0, 2) ~= 0 then return "another variant than 0" end
    if header(0, 1):bitfield(2, 1) ~= 0 then return "a control message" end
    if header(0, 1):bitfield(3, 5) ~= 0 then return "optional fields" end
    if header(2, 2):uint() ~= 0 then return "flags" end
    if not inner_protocols[protocol] then return "neither IPv4 nor IPv6 inside" end
    if datagram:len() == GUE_HEADER then return "nothing inside" end
    if datagram(GUE_HEADER, 1):bitfield(0, 4) ~= (protocol == 4 and 4 or 6) then
        return "an IP version inside that the protocol does not name"
    end
end

function gue.dissector(datagram, packet, tree)
    packet.cols.protocol = "GUE"
    if datagram:len() < GUE_HEADER then
        tree:add(gue, datagram()):add_proto_expert_info(gue_bad, "Shorter than the GUE header")
        return
    end
    local header = datagram(0, GUE_HEADER)
    local branch = tree:add(gue, header)
    branch:add(gue_fields.variant, header(0, 1))
    branch:add(gue_fields.control, header(0, 1))
    branch:add(gue_fields.length, header(0, 1))
    branch:add(gue_fields.protocol, header(1, 1))
    branch:add(gue_fields.flags, header(2, 2))
    local what = obstacle(header, datagram)
    if what then
        branch:add_proto_expert_info(gue_bad, "Not a tunnel of firstack: " .. what)
        if datagram:len() > GUE_HEADER then
            Dissector.get("data"):call(datagram(GUE_HEADER):tvb(), packet, tree)
        end
        return
    end
    local inner = header(1, 1):uint() == 4 and "ip" or "ipv6"
    Dissector.get(inner):call(datagram(GUE_HEADER):tvb(), packet, tree)
end

DissectorTable.get("udp.port"):add(GUE_PORT, gue)
