-- Wireshark dissector for firstack's tag, the TCP option in a SYN that asks for a race.
--
--   kind  length  ExID (2 bytes)  flags  [key id  MAC (8 bytes)]
--
-- Use: wireshark -X lua_script:firstack.lua, or copy it to the personal Lua plugins folder.
-- Filter: firstack, firstack.configuration == 0, firstack.permitted == false, firstack.bad

local firstack = Proto("firstack", "firstack race tag")

local configurations = { [0] = "A (full NAT)", [1] = "B (one-way NAT)", [2] = "C (tunnel)", [3] = "unknown" }
local fields = firstack.fields
fields.permitted = ProtoField.bool("firstack.permitted", "Redirection permitted")
fields.configuration = ProtoField.uint8("firstack.configuration", "Configuration", base.DEC, configurations)
fields.signed = ProtoField.bool("firstack.signed", "Signed")
fields.key = ProtoField.uint8("firstack.key", "Key id")
fields.mac = ProtoField.uint64("firstack.mac", "MAC", base.HEX)
local bad = ProtoExpert.new("firstack.bad", "Length and flags disagree", expert.group.MALFORMED, expert.severity.ERROR)
firstack.experts = { bad }

firstack.prefs.kind = Pref.uint("Option kind", 253, "TCP option kind of the tag")
firstack.prefs.exid = Pref.uint("ExID", 0x4E52, "Experiment identifier of the tag")

local tcp_options = Field.new("tcp.options")

-- Shows the tag in `option`, a range over the whole option.
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
