-- Takes a token of the bucket KEYS[1], which gets ARGV[1] tokens each microsecond and holds ARGV[2].
-- Answers with 1 if there was one, how many are left, and the microseconds until there is one and until it is full.
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]), tonumber(bucket[2])
if not tokens or not at then
  tokens, at = burst, now
end
local back = now < at -- the clock went back, as it may when a replica takes over
if not back then
  tokens = math.min(burst, tokens + (now - at) * rate)
end

local allowed = tokens >= 1
if allowed then
  tokens = tokens - 1
end
if allowed or back then -- else what is there says the same
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(math.ceil((burst - tokens) / rate / 1000) + 1, 1e14)))
end

local retry = 0
if not allowed then
  retry = math.ceil((1 - tokens) / rate)
end
local most = 9e15 -- 285 years, which a time.Duration can hold
return {allowed and 1 or 0, math.floor(tokens), math.min(retry, most), math.min(math.ceil((burst - tokens) / rate), most)}
