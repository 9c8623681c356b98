/** What must happen in Redis at once, as Lua. Times are those of Redis, so that clocks of nodes may differ. */

/**
 * A process says that it is there.
 * KEYS: the processes. ARGV: the process, milliseconds until it counts as silent, and until it is forgotten.
 * @returns whether it was known, how many there are, how many of them are silent.
 */
export const BEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First, since only the first write of a script fails when memory is full, and a beat must tell.
local known = redis.call('ZADD', KEYS[1], now, ARGV[1]) == 0
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { known and 1 or 0, redis.call('ZCARD', KEYS[1]), redis.call('ZCOUNT', KEYS[1], '-inf', now - ARGV[2]) }
`;

/**
 * Leases tokens of a destination's rate: a bucket that fills while time passes.
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
