-- Sends the requests of a file, each connection the next one as soon as it has its answer, and judges the answers.
--
-- Requests are sent once each (`once`) or over and over; the run is over after so many seconds or requests, and ends
-- when what is under way then has been answered. wrk itself would cut it off.

local ffi = require("ffi")

ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *now);
  int getpid(void);
  int kill(int pid, int number);
]]

local MONOTONIC = 1
local INTERRUPT = 2
local FOR_EVER_MS = 1000000000

local threads = {}
local requests = {}
local seconds, most, wanted_status, wanted_text
local is_over = false
local handed = 0

sent, answered, wrong, first_wrong = 0, 0, 0, ""
began, ended = 0, 0

local function now()
  local time = ffi.new("bench_time")
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

-- A line with its length goes before each request.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  local at, found = 1, {}
  while at <= #text do
    local newline = text:find("\n", at, true)
    local length = tonumber(text:sub(at, newline - 1))
    found[#found + 1] = text:sub(newline + 1, newline + length)
    at = newline + length + 1
  end
  return found
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  requests = read(arguments[1])
  seconds = tonumber(arguments[2])
  most = arguments[3] == "once" and #requests or math.huge
  wanted_status = tonumber(arguments[4])
  wanted_text = arguments[5]
end

local function end_if_all_answered()
  if is_over and answered == sent then
    ended = now()
    wrk.thread:stop()
    -- The main thread sleeps for as long as it was told on the command line.
    ffi.C.kill(ffi.C.getpid(), INTERRUPT)
  end
end

-- Asked before each request: how many milliseconds to wait with it.
function delay()
  if began == 0 then
    began = now()
  end
  is_over = is_over or sent >= most or now() - began >= seconds
  if is_over then
    end_if_all_answered()
    return FOR_EVER_MS
  end
  sent = sent + 1
  return 0
end

-- wrk asks for one more, before it begins, to see what they look like. Several may have been let go by then, so
-- `sent` does not tell which of them this one is.
function request()
  if sent > 0 then
    handed = handed + 1
  end
  return requests[math.max(handed - 1, 0) % #requests + 1]
end

function response(status, headers, body)
  answered = answered + 1
  if status ~= wanted_status or not body:find(wanted_text, 1, true) then
    wrong = wrong + 1
    if first_wrong == "" then
      first_wrong = string.format("%d %s", status, body:sub(1, 200))
    end
  end
  end_if_all_answered()
end

function done(summary, latency, rates)
  local thread = threads[1]
  io.write(string.format("\nsent %d\nanswered %d\nwrong %d\nseconds %.6f\np50_ms %.3f\np99_ms %.3f\n",
    thread:get("sent"), thread:get("answered"), thread:get("wrong"), thread:get("ended") - thread:get("began"),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
  io.write("first_wrong ", (thread:get("first_wrong"):gsub("%c", " ")), "\n")
end
