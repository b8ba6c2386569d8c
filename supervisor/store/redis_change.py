"""The script that changes what a session holds; see :mod:`supervisor.store.redis_scripts`."""

from __future__ import annotations

from typing import Final

from supervisor.redis_link.link import Script
from supervisor.store.redis_scripts import COMMON

CHANGE_FILES: Final = Script(
    COMMON
    + """
-- Finds out which files go, and by how many files and bytes the session changes.
local function plan_files(id, drop, put)
    local plan = { gone = {}, count = 0, bytes = 0 }
    local coming, place_of = {}, {}
    local function go(file_id)
        if plan.gone[file_id] then return end
        local text = redis.call('HGET', key('files', id), file_id)
        if not text then return end
        plan.gone[file_id] = text
        plan.count = plan.count - 1
        plan.bytes = plan.bytes - cjson.decode(text).size
    end
    for _, file_id in ipairs(drop) do go(file_id) end
    for place, file in ipairs(put) do
        local old = redis.call('HGET', key('names', id), file.name)
        if old then go(old) end
        local earlier = place_of[file.name]
        if earlier then
            plan.count = plan.count - 1
            plan.bytes = plan.bytes - put[earlier].size
            coming[put[earlier].id] = nil
            put[earlier].skip = true
        end
        local other = redis.call('GET', key('file', file.id))
        if coming[file.id] or (other and not plan.gone[file.id]) then return nil end
        coming[file.id], place_of[file.name] = true, place
        plan.count = plan.count + 1
        plan.bytes = plan.bytes + file.size
    end
    return plan
end

local function plan_directories(id, drop, add)
    local count, is = 0, {}
    local function there(name)
        if is[name] == nil then is[name] = redis.call('SISMEMBER', key('directories', id), name) == 1 end
        return is[name]
    end
    for _, name in ipairs(drop) do
        if there(name) then count = count - 1 end
        is[name] = false
    end
    for _, name in ipairs(add) do
        if not there(name) then count = count + 1 end
        is[name] = true
    end
    return count, is
end

local function apply_files(id, plan, put)
    local session = key('session', id)
    for file_id, text in pairs(plan.gone) do drop_file(id, file_id, text) end
    for _, file in ipairs(put) do
        if not file.skip then
            redis.call('HSET', key('files', id), file.id, file.text)
            redis.call('HSET', key('names', id), file.name, file.id)
            redis.call('SET', key('file', file.id), id)
            refer(file.sha256, 1)
            redis.call('HINCRBY', session, 'files', 1)
            redis.call('HINCRBY', session, 'file_bytes', file.size)
            hold(session, file.size)
        end
    end
end

local function take_files()
    local put = take_list()
    for place, text in ipairs(put) do
        local id, rest = text:match('^(%S+) (.*)$')
        local file = cjson.decode(rest)
        put[place] = { id = id, text = rest, name = file.name, size = file.size, sha256 = file.sha256 }
    end
    return put
end

return once(function()
    local id, fence, expires, most_files, most_bytes = take(), take(), take(), tonumber(take()), tonumber(take())
    local quota, row, drop, drop_dirs, add_dirs = take_quota(), take_row(), take_list(), take_list(), take_list()
    local packages, put = take(), take_files()
    local session = key('session', id)
    if fenced(id, fence) then return 'fenced' end
    local of = account_of(id)
    if not of and not row then return 'gone' end
    local files = plan_files(id, drop, put)
    if not files then return 'taken' end
    local dirs, is = plan_directories(id, drop_dirs, add_dirs)
    local grown, old = files.bytes, redis.call('HGET', session, 'packages')
    if packages ~= '' and old then grown = grown - cjson.decode(old).size end
    if packages ~= '' and packages ~= 'none' then grown = grown + cjson.decode(packages).size end
    local passed = over(quota, of or row, not of, grown)
    if passed then return passed .. ' ' .. (of or row).shared end
    local held = redis.call('HMGET', session, 'files', 'file_bytes')
    local directories = redis.call('SCARD', key('directories', id)) + dirs
    if number(held[1]) + files.count + directories > most_files then return 'files' end
    if number(held[2]) + files.bytes > most_bytes then return 'bytes' end
    if row then make_session(id, row) end
    apply_files(id, files, put)
    for name, there in pairs(is) do redis.call(there and 'SADD' or 'SREM', key('directories', id), name) end
    if packages ~= '' then keep(session, 'packages', packages ~= 'none' and packages or nil) end
    live_until(id, expires)
    return 'ok'
end)
"""
)
