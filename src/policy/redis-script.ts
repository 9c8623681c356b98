/**
 * Writes down facts about bans, each unless a newer one of its network is there.
 * KEYS: the facts. ARGV: network, milliseconds since 1970, text; and so on.
 */
export const PUT_BANS = `
for i = 1, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local at = held and tonumber(string.match(held, '^%d+')) or -1
  if at < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2]) end
end
return 1
`;
