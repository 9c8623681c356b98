/** Rate limits: token buckets for connections, messages, recipients and commands, each per what the config says. */
import { clientNetwork, formatNetwork, neighbourhood } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { Bucket, CounterStore, Taken } from './counters.ts';
import { type Found, type Hit, nameless, Part, type Rule, type Subject } from './part.ts';

type Limit = Config['policy']['rates']['limits'][number];
export type Counted = Limit['count'];

const RULE = {
  connections: 'connection_rate',
  messages: 'message_rate',
  recipients: 'recipient_rate',
  commands: 'command_rate',
} as const satisfies Record<Counted, Rule>;

interface Rate {
  per: Limit['per'];
  bucket: Bucket;
}

export class Rates {
  readonly part: Part;
  readonly #counters: CounterStore;
  readonly #rates: Record<Counted, Rate[]> = { connections: [], messages: [], recipients: [], commands: [] };

  constructor(config: Config['policy']['rates'], counters: CounterStore) {
    this.part = new Part(config);
    this.#counters = counters;
    for (const { count, per, limit, interval_ms: intervalMs, burst } of config.limits)
      this.#rates[count].push({ per, bucket: { limit, intervalMs, burst: burst ?? limit } });
  }

  /** Whether anything of this kind is limited. */
  counts(counted: Counted): boolean {
    return this.part.enabled && this.#rates[counted].length > 0;
  }

  /** Takes a token of every bucket that this falls into. @param domain of the sender, '' while there is none. */
  take(counted: Counted, subject: Subject, domain: string, nowMs: number): Found {
    if (!this.counts(counted) || !this.part.concerns(subject, domain)) return null;
    let late: Promise<Hit | null> | null = null;
    for (const { per, bucket } of this.#rates[counted]) {
      const who = nameOf(per, subject, domain);
      if (who === null) continue;
      const taken = this.#counters.take(`${counted} ${per} ${who}`, 1, bucket, nowMs);
      const judge = (waitMs: Taken): Hit | null => this.#judge(counted, `${per} ${who}`, bucket, waitMs);
      if (typeof taken !== 'number') {
        const before: Promise<Hit | null> = late ?? Promise.resolve(null);
        late = Promise.all([before, taken]).then(([hit, waitMs]) => hit ?? judge(waitMs));
      } else if (taken > 0) return judge(taken);
    }
    return late;
  }

  #judge(counted: Counted, who: string, { limit, intervalMs }: Bucket, waitMs: number): Hit | null {
    if (waitMs === 0) return null;
    return {
      rule: RULE[counted],
      mode: this.part.mode,
      detail: `more than ${limit} ${counted} in ${intervalMs / 1000} s per ${who}`,
      text: `${Math.ceil(waitMs / 1000)}`,
    };
  }
}

/** Whose bucket it is; null when this client has none. */
function nameOf(per: Limit['per'], subject: Subject, domain: string): string | null {
  const { ip, user } = subject;
  switch (per) {
    case 'ip':
      return ip === null ? nameless(subject) : formatNetwork(clientNetwork(ip));
    case 'network':
      return ip === null ? nameless(subject) : formatNetwork(neighbourhood(ip));
    case 'user':
      return user;
    case 'sender_domain':
      return domain === '' ? null : domain;
    case 'all':
      return 'all';
  }
}
