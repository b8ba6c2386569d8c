"""The scripts that change jobs in Redis: each is one step of a job's life, whole or not at all.

Keys, all under the prefix:

* ``job:ID``: the ledger's line: a hash with state, lane, entry of the stream, gateway, worker, and times in
  milliseconds by Redis' clock.
* ``result:ID``: what the worker answered. ``ledger``: ids by the time at which they were queued.
* ``lane:LANE``: the stream of a lane, group ``workers``; ``waiting:LANE``: its jobs that nobody has begun, by the time
  at which they were queued; ``due``: those of all lanes, by the time at which they expire; ``pools``: lanes of pools.
* ``running:WORKER``: jobs that it has begun. ``control:WORKER``: the stream of what it is told about them.
* ``replies:GATEWAY``: the stream of what a gateway is told about its jobs.
* ``alive:worker:NAME``, ``alive:gateway:NAME``: heartbeats, with a life of ``fleet.lost_seconds``; ``workers``: name to
  state and pool's lane; ``gateways``: their names; ``watch``: since when heartbeats are looked after without a gap.

Every script may come twice, because an answer may be lost on its way, and then changes nothing more.
"""

from __future__ import annotations

from typing import Final

from supervisor.redis_link.link import Script

GROUP: Final = "workers"
MOST_HOPS: Final = 4

_PRELUDE: Final = """
local base = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local DAY = 86400000

local function key(...) return base .. ':' .. table.concat({...}, ':') end

local function whole(number) return string.format('%.0f', number) end

local function leave_lane(job, lane, entry)
  redis.call('XACK', key('lane', lane), 'workers', entry)
  redis.call('XDEL', key('lane', lane), entry)
  redis.call('ZREM', key('waiting', lane), job)
  redis.call('ZREM', key('due'), job)
end

local function tell(gateway, ...)
  local replies = key('replies', gateway)
  local added = redis.pcall('XADD', replies, 'MAXLEN', '~', '5000', '*', ...)
  if type(added) == 'table' and added.err then
    local said = added.err
    -- Somebody has put something else there, or used up its numbers: without this no job of the gateway would ever end.
    -- Where there is no room, say, what is there stays.
    if not (string.find(said, 'WRONGTYPE') or string.find(said, 'last possible ID')) then error(said) end
    redis.call('DEL', replies)
    redis.call('XADD', replies, 'MAXLEN', '~', '5000', '*', ...)
  end
  redis.call('PEXPIRE', replies, 3600000)
end

-- The end of a job that has no answer of a worker.
local function close(job, state, reason, keep)
  local hash = key('job', job)
  local known = redis.call('HMGET', hash, 'lane', 'entry', 'gateway', 'worker', 'expires')
  -- Half a line is none of ours; what there is of it ends all the same.
  if known[1] and known[2] then leave_lane(job, known[1], known[2]) else redis.call('ZREM', key('due'), job) end
  if known[4] then redis.call('SREM', key('running', known[4]), job) end
  redis.call('HSET', hash, 'state', state, 'ended', whole(now), 'reason', reason)
  redis.call('PEXPIRE', hash, whole(math.max(tonumber(keep), (tonumber(known[5]) or now) - now + 60000)))
  if not known[3] then return end
  tell(known[3], 'job', job, 'kind', 'lost', 'payload', reason, 'began', known[4] and '1' or '0')
end

local function join_lane(job, lane, queued, expires, fields)
  local stream = key('lane', lane)
  local entry = redis.call('XADD', stream, '*', unpack(fields))
  redis.call('PEXPIRE', stream, DAY)
  redis.call('ZADD', key('waiting', lane), queued, job)
  redis.call('PEXPIRE', key('waiting', lane), DAY)
  redis.call('ZADD', key('due'), expires, job)
  redis.call('HSET', key('job', job), 'lane', lane, 'entry', entry)
  if string.sub(lane, 1, 5) == 'pool:' then redis.call('SADD', key('pools'), lane) end
end

-- A worker's lane that nobody reads any more is none; there may be another for the job.
local function lane_or(lane, fallback)
  local worker = string.match(lane, '^worker:(.*)$')
  if not worker then return lane end
  local known = redis.call('HGET', key('workers'), worker)
  if known and known ~= 'gone' then return lane end
  return fallback
end

-- Into another lane, or to the end of its own; nobody has begun it.
local function move(job, to, keep)
  local known = redis.call('HMGET', key('job', job), 'lane', 'entry', 'queued', 'expires')
  local found = redis.call('XRANGE', key('lane', known[1]), known[2], known[2])[1]
  if not found then
    close(job, 'lost', 'it vanished from the queue', keep)
    return
  end
  leave_lane(job, known[1], known[2])
  join_lane(job, to, known[3], known[4], found[2])
end
"""


def job_script(text: str, *, brief: bool = False) -> Script:
    """Make a script of this body; its one key is the prefix's own (``link.key()``), its arguments are its affair."""
    return Script(_PRELUDE + text, brief=brief)


# ARGV: lane... Makes their streams, if they are not there, with an end: who dies before a first heartbeat leaves none.
MAKE_LANES: Final = job_script("""
for _, lane in ipairs(ARGV) do
  local made = redis.pcall('XGROUP', 'CREATE', key('lane', lane), 'workers', '0', 'MKSTREAM')
  if made.err and not string.find(made.err, '^BUSYGROUP') then error(made.err) end
  redis.call('PEXPIRE', key('lane', lane), DAY)
end
return 1
""")

# ARGV: job, lane, gateway, signed, body, expires, fallback, most, oldest, keep, until when it counts. Gives what became
# of it.
SUBMIT: Final = job_script(
    """
local job, lane, gateway, signed, body, expires, fallback, most, oldest, keep, by = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'lane')
if known[1] then return {'known', known[2] or lane} end
if tonumber(expires) <= now then return {'expired', lane} end
-- It has lain in the buffers of a server that stood still, and its caller was told that there is none.
if tonumber(by) <= now then return {'late', lane} end
lane = lane_or(lane, fallback)
if lane == '' then return {'gone', lane} end
local waiting = 0
if string.sub(lane, 1, 5) == 'pool:' then
  for _, pool in ipairs(redis.call('SMEMBERS', key('pools'))) do
    waiting = waiting + redis.call('ZCARD', key('waiting', pool))
  end
else
  waiting = redis.call('ZCARD', key('waiting', lane))
end
if waiting >= tonumber(most) then return {'long', lane} end
local first = redis.call('ZRANGE', key('waiting', lane), 0, 0, 'WITHSCORES')
if first[2] and now - tonumber(first[2]) > tonumber(oldest) then return {'old', lane} end
redis.call('HSET', hash, 'state', 'queued', 'gateway', gateway, 'queued', whole(now), 'expires', expires,
  'fallback', fallback, 'hops', '0')
redis.call('PEXPIRE', hash, whole(tonumber(expires) - now + tonumber(keep) + 60000))
redis.call('ZADD', key('ledger'), whole(now), job)
join_lane(job, lane, whole(now), expires,
  {'job', job, 'gateway', gateway, 'expires', expires, 'signed', signed, 'body', body})
return {'queued', lane}
""",
    brief=True,
)

# ARGV: job, keep. Gives the state that it was found in. One that is not known yet will be refused when it comes.
CANCEL: Final = job_script("""
local job, keep = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'worker')
if not known[1] then
  redis.call('HSET', hash, 'state', 'cancelled', 'queued', whole(now), 'ended', whole(now), 'gateway', '')
  redis.call('PEXPIRE', hash, whole(math.max(tonumber(keep), 3660000)))
  redis.call('ZADD', key('ledger'), whole(now), job)
  return 'unknown'
end
if known[1] == 'queued' then close(job, 'cancelled', 'cancelled', keep) end
if known[1] == 'running' then
  redis.call('XADD', key('control', known[2]), 'MAXLEN', '~', '5000', '*', 'cancel', job)
  redis.call('PEXPIRE', key('control', known[2]), 3600000)
end
return known[1]
""")

# ARGV: job, lane, entry, worker, token, keep, and what the gateway is told then ('': nothing). 1: it is this worker's
# to run, and was nobody's before.
BEGIN: Final = job_script(
    """
local job, lane, entry, worker, token, keep, news = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'entry', 'lane', 'expires', 'token', 'gateway')
if known[1] == 'running' and known[5] == token then return 1 end
if known[1] ~= 'queued' or known[2] ~= entry or known[3] ~= lane then
  redis.call('XACK', key('lane', lane), 'workers', entry)
  redis.call('XDEL', key('lane', lane), entry)
  return 0
end
if tonumber(known[4]) <= now then
  close(job, 'expired', 'it waited too long', keep)
  return 0
end
redis.call('HSET', hash, 'state', 'running', 'worker', worker, 'token', token, 'began', whole(now))
redis.call('PEXPIRE', hash, 7 * DAY)
redis.call('SADD', key('running', worker), job)
-- Whoever has begun something is looked after, also if it was taken for dead before.
redis.call('HSETNX', key('workers'), worker, 'back')
redis.call('ZREM', key('waiting', lane), job)
redis.call('ZREM', key('due'), job)
if news ~= '' then tell(known[6], 'job', job, 'kind', 'event', 'payload', news, 'number', '1') end
return 1
""",
    brief=True,
)

# ARGV: job, entry, token, keep. Who asked to begin it and heard no answer does not run it: it goes into its lane anew,
# under another entry, so that what was asked and is still on its way begins nothing.
UNDO: Final = job_script("""
local job, entry, token, keep = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'entry', 'token', 'worker', 'lane')
if known[2] ~= entry then return 0 end
if known[1] == 'running' and known[3] == token then
  redis.call('SREM', key('running', known[4]), job)
  redis.call('HDEL', hash, 'worker', 'token', 'began')
  redis.call('HSET', hash, 'state', 'queued')
elseif known[1] ~= 'queued' then
  return 0
end
move(job, known[5], keep)
return 1
""")

# ARGV: job, lane, entry, token, state, payload, number, keep. 1: this is its outcome; 0: another was told before.
FINISH: Final = job_script(
    """
local job, lane, entry, token, state, payload, number, keep = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'token', 'entry', 'gateway', 'worker', 'expires', 'finished')
if known[7] == token then return 1 end
local running = known[1] == 'running' and known[2] == token
local refused = known[1] == 'queued' and known[3] == entry
if not running and not refused then
  redis.call('XACK', key('lane', lane), 'workers', entry)
  redis.call('XDEL', key('lane', lane), entry)
  return 0
end
local life = whole(math.max(tonumber(keep), tonumber(known[6]) - now + 60000))
redis.call('HSET', hash, 'state', state, 'ended', whole(now), 'finished', token)
redis.call('PEXPIRE', hash, life)
redis.call('SET', key('result', job), payload, 'PX', keep)
tell(known[4], 'job', job, 'kind', 'result', 'payload', payload, 'number', number)
if known[5] then redis.call('SREM', key('running', known[5]), job) end
leave_lane(job, lane, entry)
return 1
""",
    brief=True,
)

# ARGV: gateway, job, payload, number.
EVENT: Final = job_script(
    """
tell(ARGV[1], 'job', ARGV[2], 'kind', 'event', 'payload', ARGV[3], 'number', ARGV[4])
return 1
""",
    brief=True,
)

# ARGV: job, lane, entry, to, most hops (empty: not counted), keep. Gives how it stands now.
HAND_BACK: Final = job_script("""
local job, lane, entry, to, most, keep = unpack(ARGV)
local hash = key('job', job)
local known = redis.call('HMGET', hash, 'state', 'entry', 'hops', 'fallback')
if known[1] ~= 'queued' or known[2] ~= entry then
  redis.call('XACK', key('lane', lane), 'workers', entry)
  redis.call('XDEL', key('lane', lane), entry)
  return known[1] or 'unknown'
end
if most ~= '' then
  if tonumber(known[3]) >= tonumber(most) then
    close(job, 'failed', 'it was handed on too often', keep)
    return 'failed'
  end
  redis.call('HINCRBY', hash, 'hops', 1)
end
to = lane_or(to, known[4])
if to == '' then
  close(job, 'lost', 'its worker left', keep)
  return 'lost'
end
move(job, to, keep)
return 'queued'
""")
