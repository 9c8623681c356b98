/**
 * Writes facts about bans, each unless a newer one about its network is there.
 * KEYS: the hash of facts. ARGV, for each fact: network, milliseconds since 1970, text.
 */
export const PUT_BANS = `
for i = 1, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local at = held and tonumber(string.match(held, '^%d+')) or -1
  if at < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2]) end
end
return 1
`;
