/**
 * What must happen in Redis in one step, as Lua. Times are by the clock of Redis, so the clocks of nodes may differ.
 */

/**
 * A process says that it lives. Several lives of one process count as one: they have its name before the last slash.
 * KEYS: the processes. ARGV: this life, milliseconds until a process counts as silent, and until it is forgotten.
 * @returns whether it was known, how many processes there are, how many of them are silent.
 */
export const BEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First, since only the first write of a script fails when memory is full, and a beat must tell.
local known = redis.call('ZADD', KEYS[1], now, ARGV[1]) == 0
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local lives = redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local met, all, silent = {}, 0, 0
for i = 1, #lives, 2 do
  local name = string.match(lives[i], '^(.*)/')
  if not met[name] then
    met[name] = true
    all = all + 1
    if tonumber(lives[i + 1]) <= now - ARGV[2] then silent = silent + 1 end
  end
end
return { known and 1 or 0, all, silent }
`;

/**
 * Leases tokens of a destination's rate from a bucket that fills with time.
 * KEYS: the bucket. ARGV: tokens per second, what it holds at most, how many are wanted.
 * @returns how many were granted.
 */
export const LEASE_TOKENS = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(bucket[1]) or size
local at = tonumber(bucket[2]) or now
tokens = math.min(size, tokens + math.max(0, now - at) * rate / 1000000)
local granted = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - granted), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000) + 1000)
return granted
`;

/**
 * Leases a part of a limit, such as of connections to a destination. What a process holds counts until it says that it is
 * given back, or until its lease ends. While a process has less than its fair part and wants more, no process gets more than
 * the fair part.
 * KEYS: the holders. ARGV: the process, how much it holds now, how much it wants, the limit, milliseconds of the lease.
 * @returns how much it may have.
 */
export const LEASE_PART = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, open, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local all = redis.call('HGETALL', KEYS[1])
local others, claimants, short, gone = 0, 1, false, {}
local needs = {}
for i = 1, #all, 2 do
  local held, wants, untilMs = string.match(all[i + 1], '(%d+) (%d+) (%d+)')
  if tonumber(untilMs) <= now then gone[#gone + 1] = all[i]
  elseif all[i] ~= me then
    others = others + tonumber(held)
    if tonumber(wants) > 0 then claimants = claimants + 1 end
    needs[#needs + 1] = { tonumber(held), tonumber(wants) }
  end
end
local fair = math.max(1, math.floor(limit / claimants))
for _, need in ipairs(needs) do
  if need[1] < fair and need[1] < need[2] then short = true end
end
local granted = math.max(0, math.min(wanted, limit - others))
if short then granted = math.min(granted, fair) end
-- More processes than parts: nobody stands still.
if claimants > limit then granted = math.max(granted, math.min(wanted, 1)) end
if wanted == 0 and open == 0 then gone[#gone + 1] = me
else
  redis.call('HSET', KEYS[1], me, string.format('%d %d %d', math.max(open, granted), wanted, now + lease))
  redis.call('PEXPIRE', KEYS[1], lease)
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
return granted
`;
