"""The Lua scripts of :mod:`supervisor.store.redis_sessions`: each is one transaction.

A script is never interrupted and nothing of it is taken back, so each finds out first whether it may, and writes then.
All keys begin with ``KEYS[1]``, whose hash tag puts them into one slot:

=====================  ====================================================================================
``session:ID``         hash: ``row``, ``expires``, ``owner``, ``account``, ``tenant``, ``shared``, ``state`` and
                       ``packages`` (JSON), and counts: ``files``, ``file_bytes``, ``held`` (bytes of everything)
``files:ID``           hash of a session: the file's id, and the file as JSON
``names:ID``           hash of a session: the file's name, and its id
``directories:ID``     set of a session
``file:ID``            the session that has the file
``owner:OWNER``        sorted set of sessions by when they were made, the newest first
``made``               the same of all owners; sessions of versions before this one are not in it
``account:ACCOUNT``    hash: ``bytes`` and ``sessions``
``tenant:TENANT``      bytes
``ref:SHA256``         how many files, states and packages have these bytes
``expiry``             sorted set of sessions by when they expire
``state_expiry``       the same of those with a state, by when that expires
``done:CALL``          what a call that wrote was answered, for a while: it may be asked again, when the answer was lost
=====================  ====================================================================================
"""

from __future__ import annotations

from typing import Final

from supervisor.redis_link.link import Script

COMMON: Final = """
local base = KEYS[1]
local next_argument = 0
local function take() next_argument = next_argument + 1; return ARGV[next_argument] end
local function take_list()
    local list = {}
    for each = 1, tonumber(take()) do list[each] = take() end
    return list
end
local function key(kind, id) return base .. kind .. ':' .. id end
local function number(text) return tonumber(text or 0) or 0 end

local function refer(sha, by)
    if redis.call('INCRBY', key('ref', sha), by) <= 0 then redis.call('DEL', key('ref', sha)) end
end

-- Has a session, its account and its tenant hold so many bytes more.
local function hold(session, by)
    if by == 0 then return end
    local of = redis.call('HMGET', session, 'account', 'tenant')
    redis.call('HINCRBY', session, 'held', by)
    redis.call('HINCRBY', key('account', of[1]), 'bytes', by)
    if redis.call('INCRBY', key('tenant', of[2]), by) == 0 then redis.call('DEL', key('tenant', of[2])) end
end

-- Puts JSON with sha256 and size into a field of a session, or takes it out; bytes are counted.
local function keep(session, field, text)
    local old = redis.call('HGET', session, field)
    local grown = 0
    if text then
        local new = cjson.decode(text)
        redis.call('HSET', session, field, text)
        refer(new.sha256, 1)
        grown = new.size
    end
    if old then
        old = cjson.decode(old)
        refer(old.sha256, -1)
        grown = grown - old.size
        if not text then redis.call('HDEL', session, field) end
    end
    hold(session, grown)
end

local function drop_file(id, file_id, text)
    local file = cjson.decode(text)
    local session = key('session', id)
    redis.call('HDEL', key('files', id), file_id)
    local names = key('names', id)
    if redis.call('HGET', names, file.name) == file_id then redis.call('HDEL', names, file.name) end
    redis.call('DEL', key('file', file_id))
    refer(file.sha256, -1)
    redis.call('HINCRBY', session, 'files', -1)
    -- Not -file.size: of an empty file that is -0, which is no integer to Redis.
    redis.call('HINCRBY', session, 'file_bytes', 0 - file.size)
    hold(session, 0 - file.size)
end

local function drop_session(id)
    local session = key('session', id)
    local of = redis.call('HMGET', session, 'owner', 'account', 'state', 'packages')
    if not of[1] then return 0 end
    local files = redis.call('HGETALL', key('files', id))
    for each = 1, #files, 2 do drop_file(id, files[each], files[each + 1]) end
    if of[3] then keep(session, 'state', nil) end
    if of[4] then keep(session, 'packages', nil) end
    local account = key('account', of[2])
    if redis.call('HINCRBY', account, 'sessions', -1) <= 0 then redis.call('DEL', account) end
    redis.call('ZREM', key('owner', of[1]), id)
    redis.call('ZREM', base .. 'made', id)
    redis.call('ZREM', base .. 'expiry', id)
    redis.call('ZREM', base .. 'state_expiry', id)
    redis.call('DEL', session, key('directories', id))
    return 1
end

local function live_until(id, expires)
    local old = redis.call('HGET', key('session', id), 'expires')
    if old and tonumber(old) >= tonumber(expires) then return end
    redis.call('HSET', key('session', id), 'expires', expires)
    redis.call('ZADD', base .. 'expiry', expires, id)
end

-- A session as it is to be made, `made` below zero, so that the newest is the first; nothing if row is empty.
local function take_row()
    local row = { row = take(), expires = take(), owner = take(), account = take(), tenant = take(), shared = take() }
    row.made = take()
    if row.row == '' then return nil end
    return row
end

local function make_session(id, row)
    local session = key('session', id)
    if redis.call('EXISTS', session) == 0 then
        redis.call('HSET', session, 'row', row.row, 'owner', row.owner, 'account', row.account, 'tenant', row.tenant,
            'shared', row.shared, 'files', 0, 'file_bytes', 0, 'held', 0)
        redis.call('HINCRBY', key('account', row.account), 'sessions', 1)
        redis.call('ZADD', key('owner', row.owner), row.made, id)
        redis.call('ZADD', base .. 'made', row.made, id)
    end
    live_until(id, row.expires)
end

local function take_quota()
    local function take_number() return tonumber(take()) end
    return { bytes = take_number(), sessions = take_number(), tenant = take_number(), factor = take_number() }
end

-- Says which quota would be passed by a session that holds so many bytes more, or nothing.
local function over(quota, of, new, grown)
    local factor = of.shared == '1' and quota.factor or 1
    if grown > 0 and number(redis.call('HGET', key('account', of.account), 'bytes')) + grown > quota.bytes * factor then
        return 'account_bytes'
    end
    if grown > 0 and number(redis.call('GET', key('tenant', of.tenant))) + grown > quota.tenant then
        return 'tenant_bytes'
    end
    if new and number(redis.call('HGET', key('account', of.account), 'sessions')) + 1 > quota.sessions * factor then
        return 'account_sessions'
    end
    return nil
end

local function account_of(id)
    local of = redis.call('HMGET', key('session', id), 'account', 'tenant', 'shared')
    if not of[1] then return nil end
    return { account = of[1], tenant = of[2], shared = of[3] }
end

local function fenced(id, fence)
    return fence ~= '' and redis.call('GET', key('fence', id)) ~= fence
end

-- Does it once: the same call asked again is answered what it was answered.
local function once(work)
    local call, seconds = base .. 'done:' .. take(), take()
    local before = redis.call('GET', call)
    if before then return before end
    local answer = work()
    redis.call('SET', call, answer, 'EX', seconds)
    return answer
end
"""

PUT_SESSION: Final = Script(
    COMMON
    + """
return once(function()
    local id, row, quota = take(), take_row(), take_quota()
    local of = account_of(id)
    local passed = over(quota, of or row, not of, 0)
    if passed then return passed .. ' ' .. row.shared end
    make_session(id, row)
    return 'ok'
end)
"""
)

SESSIONS_OF: Final = Script(
    COMMON
    + """
local owner, now, limit = key('owner', take()), tonumber(take()), tonumber(take())
local found, start = {}, 0
while #found < limit do
    local ids = redis.call('ZRANGE', owner, start, start + 199)
    if #ids == 0 then break end
    start = start + #ids
    for _, id in ipairs(ids) do
        local of = redis.call('HMGET', key('session', id), 'row', 'expires', 'files', 'file_bytes')
        if #found < limit and of[2] and tonumber(of[2]) > now then
            found[#found + 1] = { id, of[1], of[2], of[3], of[4] }
        end
    end
end
return found
"""
)

# Looks at so many sessions from a place on; which of them are wanted is not its business.
ALL_SESSIONS: Final = Script(
    COMMON
    + """
local now, most, made, after = tonumber(take()), tonumber(take()), take(), take()
local index, start, found = base .. 'made', 0, {}
if after ~= '' then
    start = redis.call('ZRANK', index, after)
    start = start and start + 1 or redis.call('ZCOUNT', index, '-inf', '(' .. made)
end
local ids = redis.call('ZRANGE', index, start, start + most - 1, 'WITHSCORES')
for each = 1, #ids, 2 do
    local id, score = ids[each], ids[each + 1]
    -- Where the place itself is gone, what was made in the same moment comes before and after it.
    if after == '' or tonumber(score) > tonumber(made) or id > after then
        local of = redis.call('HMGET', key('session', id), 'row', 'expires', 'files', 'file_bytes')
        if not of[2] then redis.call('ZREM', index, id) end
        local lives = of[2] and tonumber(of[2]) > now
        found[#found + 1] = { id, score, lives and of[1] or '', of[2] or '', of[3] or 0, of[4] or 0 }
    else
        found[#found + 1] = { id, score, '', '', 0, 0 }
    end
end
return found
"""
)

CONTENTS: Final = Script(
    COMMON
    + """
local id = take()
return { redis.call('HGETALL', key('files', id)), redis.call('SMEMBERS', key('directories', id)),
    redis.call('HGET', key('session', id), 'packages') }
"""
)

FIND: Final = Script(
    COMMON
    + """
local now, found = tonumber(take()), {}
for _, file_id in ipairs(take_list()) do
    local id = redis.call('GET', key('file', file_id))
    if id then
        local of = redis.call('HMGET', key('session', id), 'row', 'expires')
        if of[2] and tonumber(of[2]) > now then
            found[#found + 1] = { file_id, redis.call('HGET', key('files', id), file_id), id, of[1], of[2] }
        end
    end
end
return found
"""
)

DELETE_FILES: Final = Script(
    COMMON
    + """
return once(function()
    for _, file_id in ipairs(take_list()) do
        local id = redis.call('GET', key('file', file_id))
        if id then drop_file(id, file_id, redis.call('HGET', key('files', id), file_id)) end
    end
    return 'ok'
end)
"""
)

PUT_STATE: Final = Script(
    COMMON
    + """
return once(function()
    local id, fence, text, expires, quota = take(), take(), take(), take(), take_quota()
    local of = account_of(id)
    if fenced(id, fence) then return 'fenced' end
    if not of then return 'gone' end
    local grown, old = cjson.decode(text).size, redis.call('HGET', key('session', id), 'state')
    if old then grown = grown - cjson.decode(old).size end
    local passed = over(quota, of, false, grown)
    if passed then return passed .. ' ' .. of.shared end
    keep(key('session', id), 'state', text)
    redis.call('ZADD', base .. 'state_expiry', expires, id)
    return 'ok'
end)
"""
)

DELETE_STATE: Final = Script(
    COMMON
    + """
return once(function()
    local id = take()
    keep(key('session', id), 'state', nil)
    redis.call('ZREM', base .. 'state_expiry', id)
    return 'ok'
end)
"""
)

DELETE_SESSION: Final = Script(COMMON + "return once(function() drop_session(take()); return 'ok' end)")

DELETE_EXPIRED: Final = Script(
    COMMON
    + """
return once(function()
    local now, most = take(), tonumber(take())
    local states = redis.call('ZRANGEBYSCORE', base .. 'state_expiry', '-inf', now, 'LIMIT', 0, most)
    for _, id in ipairs(states) do
        keep(key('session', id), 'state', nil)
        redis.call('ZREM', base .. 'state_expiry', id)
    end
    local sessions = redis.call('ZRANGEBYSCORE', base .. 'expiry', '-inf', now, 'LIMIT', 0, most)
    local dropped = 0
    for _, id in ipairs(sessions) do
        dropped = dropped + drop_session(id)
        redis.call('ZREM', base .. 'expiry', id)
    end
    return dropped .. ' ' .. ((#states == most or #sessions == most) and 1 or 0)
end)
"""
)

UNREFERENCED: Final = Script(
    COMMON
    + """
local without = {}
for _, sha in ipairs(take_list()) do
    if redis.call('EXISTS', key('ref', sha)) == 0 then without[#without + 1] = sha end
end
return without
"""
)
