-- Shared functions of the workloads. They are started from this directory, port 0 on firstack's inside,
-- port 1 on its outside, and take from the environment:
--   SECONDS_EACH how long the load lasts (10)
--   CONNECTIONS  how many the files of -s hold (8192)
--   INSIDE_RATE, OUTSIDE_RATE  per cent of the line that the ports send at under load (100)
--   OPEN_RATE    the same while connections are opened: none may be lost (0.1)
--   RESULT       a file that gets what is printed, without pktgen's screen
local lib = {}

local function number(name, default)
    return tonumber(os.getenv(name) or "") or default
end

lib.seconds = number("SECONDS_EACH", 10)
lib.connections = number("CONNECTIONS", 8192)
lib.rate = { ["0"] = os.getenv("INSIDE_RATE") or "100", ["1"] = os.getenv("OUTSIDE_RATE") or "100" }
lib.open_rate = os.getenv("OPEN_RATE") or "0.1"

local result = os.getenv("RESULT") and io.open(os.getenv("RESULT"), "a")

function lib.report(...)
    local line = string.format(...)
    print(line)
    if result then
        result:write(line, "\n")
        result:flush()
    end
end

local function totals(port)
    local stats = pktgen.portStats(port, "port")
    return stats[tonumber(port)]
end

-- Sends `count` frames by `port`, slowly enough that none is lost, and waits until they have
-- arrived; after a minute it gives up.
function lib.once(port, count)
    local before = totals(port).opackets
    pktgen.set(port, "rate", lib.open_rate)
    pktgen.set(port, "count", count)
    pktgen.start(port)
    for _ = 1, 600 do
        pktgen.delay(100)
        if totals(port).opackets - before >= count then break end
    end
    pktgen.stop(port)
    -- The counters are read once a second.
    pktgen.delay(1500)
    lib.report("port %s: %d of %d frames sent", port, totals(port).opackets - before, count)
end

-- Sends endlessly, for SECONDS_EACH, from each port that is not at rate 0. Prints the rates of each
-- second.
function lib.load()
    local before = { [0] = totals("0"), [1] = totals("1") }
    for port, rate in pairs(lib.rate) do
        if rate ~= "0" then
            pktgen.set(port, "rate", rate)
            pktgen.set(port, "count", 0)
            pktgen.start(port)
        end
    end
    for second = 1, lib.seconds do
        pktgen.delay(1000)
        local rates = pktgen.portStats("all", "rate")
        lib.report("%3d s: port 0 sends %d, receives %d; port 1 sends %d, receives %d packets/s", second,
            rates[0].pkts_tx, rates[0].pkts_rx, rates[1].pkts_tx, rates[1].pkts_rx)
    end
    pktgen.stop("all")
    pktgen.delay(2500)
    for port = 0, 1 do
        local now = totals(tostring(port))
        lib.report("port %d: %d sent, %d received, in all", port,
            now.opackets - before[port].opackets, now.ipackets - before[port].ipackets)
    end
end

-- Without this pktgen prints its screen over everything, and never ends.
function lib.main(body)
    pktgen.screen("off")
    pktgen.delay(1000)
    local ok, problem = pcall(body)
    if not ok then lib.report("failed: %s", tostring(problem)) end
    if result then result:close() end
    pktgen.quit()
end

return lib
