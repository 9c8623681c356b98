/** What processes tell each other of limits they learned: a line of JSON for each key. What is none is passed over. */
import type { ConnectionNews } from './connection-control.ts';
import { MAX_OFFERS, type Offer } from './cut.ts';
import { keyOf } from './keys.ts';
import type { RateNews } from './rate-control.ts';
import { isRateRecord } from './rate-record.ts';

export interface KeyNews {
  key: string;
  rate: RateNews | null;
  connections: ConnectionNews | null;
  reply: string;
}

const RATE_NUMBERS = ['since_refusal_ms', 'to_probe_ms', 'stage', 'factor', 'epoch'] as const;
const LONGEST = 1000;

export function newsIn(text: string): KeyNews | null {
  let value: Partial<KeyNews> | null;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { key, rate, connections, reply } = value;
  if (typeof key !== 'string' || keyOf(key) === null || typeof reply !== 'string' || reply.length > LONGEST)
    return null;
  if (rate !== null && !isRateNews(rate)) return null;
  if (connections !== null && !isConnectionNews(connections)) return null;
  return { key, rate, connections, reply };
}

function isRateNews(rate: unknown): rate is RateNews {
  if (!isRateRecord({ first_refusal_ms: 0, probe_ms: 0, ...(rate as object) })) return false;
  const { prober, asks, is_mean, offers, ...numbers } = rate as unknown as RateNews;
  return (
    RATE_NUMBERS.every((name) => Number.isFinite(numbers[name])) &&
    typeof prober === 'string' &&
    typeof asks === 'boolean' &&
    typeof is_mean === 'boolean' &&
    Array.isArray(offers) &&
    offers.length <= MAX_OFFERS &&
    offers.every(isOffer)
  );
}

const isOffer = (offer: unknown): offer is Offer =>
  Array.isArray(offer) && typeof offer[0] === 'string' && isCount(offer[1]) && isCount(offer[2]);

const isCount = (value: unknown): boolean => Number.isFinite(value) && (value as number) >= 0;

function isConnectionNews(news: unknown): news is ConnectionNews {
  if (typeof news !== 'object' || news === null) return false;
  const { epoch, most, before, open } = news as Partial<ConnectionNews>;
  return (
    [epoch, most, before].every(Number.isFinite) &&
    Array.isArray(open) &&
    open.length <= MAX_OFFERS &&
    open.every((one) => Array.isArray(one) && typeof one[0] === 'string' && isCount(one[1]))
  );
}
