"""The scripts that keep the fleet in order: who lives, what became of the jobs of those who do not."""

from __future__ import annotations

from typing import Final

from supervisor.fleet.scripts import job_script

# A heartbeat is missing after an outage of Redis too, when everybody lives: nobody is called dead before heartbeats
# have been looked after for a whole ``lost_seconds``, until just now: whoever asks may be the first after the outage.
CALM: Final = """
local function calm(lost)
  local watch = redis.call('HMGET', key('watch'), 'since', 'last', 'late')
  local since, last, late = tonumber(watch[1]), tonumber(watch[2]), tonumber(watch[3])
  return since and last and late and now - since >= tonumber(lost) and now - last <= late
end
-- One line that nobody of ours has written keeps nobody from the others.
local function try(work, otherwise)
  if not pcall(work) then otherwise() end
end
local function dead(worker, lost)
  return redis.call('EXISTS', key('alive', 'worker', worker)) == 0 and calm(lost)
end
"""

# ARGV: role, name, record, lost, what stands in the table, its catalogue ('': none), lane... Gives the time, whether it
# is asked to leave, and whether its catalogue is there.
ANNOUNCE: Final = job_script("""
local role, name, record, lost, entry, catalogue = unpack(ARGV)
redis.call('SET', key('alive', role, name), record, 'PX', lost)
redis.call('HSET', key(role .. 's'), name, entry)
for number = 7, #ARGV do redis.call('PEXPIRE', key('lane', ARGV[number]), DAY) end
local known = catalogue == '' and 1 or redis.call('PEXPIRE', key('catalogue', catalogue), DAY)
return {whole(now), redis.call('EXISTS', key('drain', name)), known}
""")

# ARGV: role, name. A worker stays in the table: what it leaves behind is the reaper's.
WITHDRAW: Final = job_script("""
local role, name = unpack(ARGV)
redis.call('DEL', key('alive', role, name))
if role == 'gateway' then
  redis.call('DEL', key('replies', name))
  redis.call('HDEL', key('gateways'), name)
else
  redis.call('DEL', key('drain', name))
  redis.call('HSET', key('workers'), name, 'gone')
end
return 1
""")

# ARGV: role. Gives the records of those who live.
PRESENT: Final = job_script("""
local role = ARGV[1]
local names = {}
for _, name in ipairs(redis.call('HKEYS', key(role .. 's'))) do
  names[#names + 1] = key('alive', role, name)
end
local found, size = {}, 0
for first = 1, math.min(#names, 20000), 500 do
  for _, record in ipairs(redis.call('MGET', unpack(names, first, math.min(first + 499, #names)))) do
    if record then
      size = size + #record
      -- More than any fleet has: whoever asks is not to be drowned.
      if size > 134217728 then return found end
      found[#found + 1] = record
    end
  end
end
return found
""")

# ARGV: how often (ms), lost (ms). Nothing if another has looked just now; else: {dead workers, dead gateways}.
WATCH: Final = job_script(
    CALM
    + """
local every, lost = tonumber(ARGV[1]), tonumber(ARGV[2])
-- One that never ends is none of ours, and would be the last.
if redis.call('PTTL', key('watch', 'turn')) == -1 then redis.call('DEL', key('watch', 'turn')) end
if not redis.call('SET', key('watch', 'turn'), '1', 'NX', 'PX', math.max(1, math.floor(every * 0.8))) then return {} end
local last = tonumber(redis.call('HGET', key('watch'), 'last'))
local since = tonumber(redis.call('HGET', key('watch'), 'since'))
-- So long after a look the next one is late: there was an outage.
local late = math.max(3 * every, lost / 2)
if not last or not since or since > now or now - last > late then
  redis.call('HSET', key('watch'), 'since', whole(now))
end
redis.call('HSET', key('watch'), 'last', whole(now), 'late', whole(late))
if not calm(lost) then return {{}, {}} end
local found = {{}, {}}
for number, role in ipairs({'worker', 'gateway'}) do
  for _, name in ipairs(redis.call('HKEYS', key(role .. 's'))) do
    if redis.call('EXISTS', key('alive', role, name)) == 0 then table.insert(found[number], name) end
  end
end
return found
"""
)

# ARGV: worker, keep, lost (empty: it says itself that it begins anew), most. Gives how much there was to do.
REAP_WORKER: Final = job_script(
    CALM
    + """
local worker, keep, lost, most = unpack(ARGV)
most = tonumber(most)
if lost ~= '' and not dead(worker, lost) then return 0 end
local done = 0
for _, job in ipairs(redis.call('SRANDMEMBER', key('running', worker), most)) do
  done = done + 1
  try(function()
    if redis.call('HGET', key('job', job), 'state') == 'running' then
      close(job, 'lost', 'its worker is gone', keep)
    end
  end, function() end)
  redis.call('SREM', key('running', worker), job)
end
local own = key('lane', 'worker:' .. worker)
if lost ~= '' then
  for _, each in ipairs(redis.call('XRANGE', own, '-', '+', 'COUNT', most)) do
    done = done + 1
    local job = each[2][2]
    try(function()
      local known = redis.call('HMGET', key('job', job), 'state', 'entry', 'fallback')
      if known[1] == 'queued' and known[2] == each[1] then
        if known[3] == '' then close(job, 'lost', 'its worker is gone', keep) else move(job, known[3], keep) end
      end
    end, function() end)
    redis.call('XDEL', own, each[1])
  end
end
local function let_go(lane)
  local stream = key('lane', lane)
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', most, worker)
  if pending.err then return end
  for _, each in ipairs(pending) do
    done = done + 1
    local entry = each[1]
    local function drop()
      redis.call('XACK', stream, 'workers', entry)
      redis.call('XDEL', stream, entry)
    end
    try(function()
      local found = redis.call('XRANGE', stream, entry, entry)[1]
      local job = found and found[2][2]
      local known = job and redis.call('HMGET', key('job', job), 'state', 'entry')
      if job and known[1] == 'queued' and known[2] == entry then move(job, lane, keep) else drop() end
    end, drop)
  end
  if #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', worker) end
end
for _, lane in ipairs(redis.call('SMEMBERS', key('pools'))) do let_go(lane) end
if lost == '' then let_go('worker:' .. worker) end
if lost ~= '' and done == 0 then
  redis.call('DEL', own, key('control', worker), key('drain', worker))
  redis.call('HDEL', key('workers'), worker)
end
return done
"""
)

# ARGV: gateway, lost.
REAP_GATEWAY: Final = job_script(
    CALM
    + """
local gateway, lost = unpack(ARGV)
if redis.call('EXISTS', key('alive', 'gateway', gateway)) == 1 or not calm(lost) then return 0 end
redis.call('DEL', key('replies', gateway))
redis.call('HDEL', key('gateways'), gateway)
return 1
"""
)

# ARGV: keep, lost, most. Jobs that waited too long; pools that nobody reads; lines of the ledger that are over.
TIDY: Final = job_script(
    CALM
    + """
local keep, lost, most = unpack(ARGV)
local done = 0
for _, job in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', whole(now), 'LIMIT', 0, most)) do
  done = done + 1
  local function forget() redis.call('ZREM', key('due'), job) end
  try(function()
    if redis.call('HGET', key('job', job), 'state') == 'queued' then
      close(job, 'expired', 'it waited too long', keep)
    else
      forget()
    end
  end, forget)
end
if calm(lost) then
  local read = {}
  for _, entry in ipairs(redis.call('HVALS', key('workers'))) do
    if string.sub(entry, 1, 6) == 'ready ' then read[string.sub(entry, 7)] = true end
  end
  for _, pool in ipairs(redis.call('SMEMBERS', key('pools'))) do
    -- One that has had no reader for a moment (a worker begins anew, say) is given the time to find one.
    local mark = 'unread ' .. pool
    if read[pool] then
      redis.call('HDEL', key('watch'), mark)
    elseif redis.call('HSETNX', key('watch'), mark, whole(now)) == 0
        and now - tonumber(redis.call('HGET', key('watch'), mark)) >= tonumber(lost) then
      for _, job in ipairs(redis.call('ZRANGE', key('waiting', pool), 0, tonumber(most) - 1)) do
        done = done + 1
        try(function()
          if redis.call('HGET', key('job', job), 'state') == 'queued' then
            close(job, 'lost', 'no worker of its kind is left', keep)
          end
        end, function() end)
        redis.call('ZREM', key('waiting', pool), job)
      end
      if redis.call('EXISTS', key('waiting', pool)) == 0 then
        redis.call('SREM', key('pools'), pool)
        redis.call('HDEL', key('watch'), mark)
      end
    end
  end
end
local old = whole(now - tonumber(keep))
for _, job in ipairs(redis.call('ZRANGEBYSCORE', key('ledger'), '-inf', old, 'LIMIT', 0, most)) do
  if redis.call('EXISTS', key('job', job)) == 0 then redis.call('ZREM', key('ledger'), job) end
end
return done
"""
)
