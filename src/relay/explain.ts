/** What a relay process says of entries: the source they leave from, what limits them, and what keeps them. Part of the composition root. */
import { netblockOf } from '../base/netblock.ts';
import { steadyMs, timeOfDayMs } from '../base/steady.ts';
import type { Config } from '../config/schema.ts';
import { Egress } from '../egress/egress.ts';
import type { AskedEntry, Blocker, Explained } from '../mail/blocker.ts';
import { SMARTHOST } from '../mail/destination.ts';
import { isOperatorKey } from '../mail/operator-keys.ts';
import { Explaining } from '../shaping/explained.ts';
import { LimitKeys } from '../shaping/limit-keys.ts';
import { domainIn } from '../shaping/message-gates.ts';
import { loadShaping } from '../shaping/shaping-file.ts';
import { ALL } from '../shaping/slot-limits.ts';
import type { Learning } from './learning.ts';
import type { RelayShaping } from './shaping.ts';

export interface RelayExplainSetup {
  /** The config as of the last reload. */
  current(): Config;
  shaping: Pick<RelayShaping, 'keys' | 'loaded'>;
  learning: Pick<Learning, 'says' | 'gatesAt'>;
  /** The site of a destination, as far as delivery has found it. */
  siteOf(destination: string): string | null;
  /** Whether the address of a source lies on this host. */
  isPresent(source: string): boolean;
}

/** A limit that lets mail through sooner is waited for, and another source is no better. */
const SOON_MS = 3000;

export class RelayExplain {
  readonly #setup: RelayExplainSetup;
  readonly #explaining: Explaining;

  constructor(setup: RelayExplainSetup) {
    const { shaping, learning } = setup;
    this.#setup = setup;
    this.#explaining = new Explaining({
      keys: shaping.keys,
      originOf: (provider, limit, source) => {
        const place = shaping.loaded.originOf(provider, limit, source)?.place;
        return place === undefined ? '' : `${place.file}:${place.line}`;
      },
      says: (by, source, site, limit) => learning.says(by, source, site, limit),
      gatesAt: (site) => learning.gatesAt(site),
      now: steadyMs,
      timeOfDay: timeOfDayMs,
    });
  }

  explain(asked: readonly AskedEntry[]): Explained[] {
    const config = this.#setup.current();
    const egress = new Egress(config);
    egress.setMissing(
      config.egress.sources.map(({ name }) => name).filter((name) => !this.#setup.isPresent(name)),
    );
    return asked.map((entry) => this.#one(config, egress, entry));
  }

  #one(config: Config, egress: Egress, entry: AskedEntry): Explained {
    const { destination, queueId } = entry;
    const none: Explained = { site: null, provider: '', pool: '', source: '', blockers: [], limits: [] };
    // Mail to hosts that the operator chose has neither pool nor site.
    if (isOperatorKey(destination) || destination === SMARTHOST) return none;
    if (config.delivery.routes[destination] !== undefined) return none;
    const site = entry.site?.key ?? this.#setup.siteOf(destination);
    const provider = entry.site?.provider ?? this.#providerOf(site);
    const at = (source: string) =>
      site === null ? { blockers: [], limits: [] } : this.#explaining.at(site, provider, source);
    const routed = {
      tenant: entry.tenant,
      campaign: entry.campaign,
      class: entry.class,
      pool: entry.pool,
      fromDomain: domainIn(entry.sender),
      recipientDomain: destination,
      provider,
    };
    const nowMs = timeOfDayMs(steadyMs());
    const mayNow = (source: string): boolean =>
      !at(source).blockers.some(({ untilMs }) => untilMs !== null && untilMs - nowMs > SOON_MS);
    // What rules hold is held, and says so; here it is about the rest.
    const decision = egress.decide(routed, holdsOf(config));
    if (decision.result !== 'pool') return { ...none, site, provider };
    const open = egress.choose(decision.value, queueId, mayNow);
    // Of sources that are all closed the one it prefers is waited for.
    const { source, pool } = open.source === null ? egress.choose(decision.value, queueId, () => true) : open;
    if (source === null)
      return { ...none, site, provider, pool, source, blockers: [noSource(config, pool, this.#setup)] };
    const { blockers, limits } = at(source);
    const attributes = { tenant: entry.tenant, campaign: entry.campaign };
    // Who signs it is not known here: its sender's domain is the one that is likely.
    const mail = { job: { reversePath: entry.sender, attributes }, dkimDomains: [domainIn(entry.sender)] };
    const { address = '' } = config.egress.sources.find(({ name }) => name === source) ?? {};
    const gates =
      site === null
        ? []
        : this.#explaining.gates(site, mail, { name: source, netblock: netblockOf(address) });
    return { site, provider, pool, source, blockers: [...blockers, ...gates], limits };
  }

  #providerOf(site: string | null): string {
    const { providers } = this.#setup.shaping.loaded.data;
    return providers.some(({ name }) => name === site) ? (site ?? '') : '';
  }
}

const holdsOf = ({ egress: { routing } }: Config): string[] =>
  routing.flatMap(({ name, hold }) => (hold === true && name !== undefined ? [name] : []));

function noSource(
  { egress: { pools, sources } }: Config,
  pool: string,
  { isPresent }: Pick<RelayExplainSetup, 'isPresent'>,
): Blocker {
  const members = pools.find(({ name }) => name === pool)?.members ?? [];
  const why = members.map(({ source }) => {
    const enabled = sources.find(({ name }) => name === source)?.enabled === true;
    return `${source} ${!enabled ? 'disabled' : isPresent(source) ? 'usable' : 'address_missing'}`;
  });
  return {
    kind: 'source_paused',
    key: `pool ${pool}`,
    limit: members.length,
    used: 0,
    sinceMs: null,
    untilMs: null,
    setBy: why.join(', '),
  };
}

/** The same without a relay: what config and data say; nothing is used, and all sources are there. */
export function explainStopped(config: Config, asked: AskedEntry): Explained {
  const loaded = loadShaping(config.shaping, config.egress);
  const keys = new LimitKeys(loaded.data, {
    table: new SharedArrayBuffer(0),
    now: steadyMs,
    share: () => ALL,
    full: () => {},
  });
  const explain = new RelayExplain({
    current: () => config,
    shaping: { keys, loaded },
    learning: { says: (by) => ({ setBy: by, sinceMs: null, counts: null }), gatesAt: () => [] },
    siteOf: () => null,
    isPresent: () => true,
  });
  return explain.explain([asked])[0] as Explained;
}
