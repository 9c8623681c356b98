/**
 * The parts of the connection policy that a host has only once: the keeper, and what it shares with other nodes. Part
 * of the composition root.
 */

import type { Log } from '../base/log.ts';
import { accessOf } from '../base/redis-options.ts';
import type { Config } from '../config/schema.ts';
import { Greylist } from '../policy/greylist.ts';
import { isShared, type PolicyMemory } from '../policy/host-memory.ts';
import { PolicyKeeper } from '../policy/keeper.ts';
import { policyMs, policyToDayMs } from '../policy/policy-time.ts';

export interface HostPolicy {
  keeper: PolicyKeeper;
  /** Tells the other nodes what is left to tell, saves, and ends. */
  close(): Promise<void>;
}

export interface HostPolicySetup {
  memory: PolicyMemory;
  config: Config;
  log: Log;
  /** The config as of the last reload. */
  current(): Config;
}

interface Cluster {
  banDeleted(network: string): void;
  close(): Promise<void>;
}

/** To be called before any thread uses the policy's memory. */
export async function openHostPolicy(setup: HostPolicySetup): Promise<HostPolicy> {
  const { memory, config, log, current } = setup;
  let cluster: Cluster | null = null;
  const keeper = new PolicyKeeper({
    memory,
    dataDir: config.data_dir,
    log,
    forgetMs: () => current().policy.bans.forget_ms,
    greylisting: () => current().policy.greylist.enabled,
    deleted: (network) => cluster?.banDeleted(network),
    now: policyMs,
    toDayMs: policyToDayMs,
  });
  if (isShared(config)) cluster = await openCluster(setup);
  return {
    keeper,
    async close() {
      await cluster?.close();
      await keeper.close();
    },
  };
}

/** A host that counts alone needs neither ioredis nor its memory. */
async function openCluster({ memory, config, log, current }: HostPolicySetup): Promise<Cluster> {
  const { PolicyCluster } = await import('../policy/cluster.ts');
  const { ClusterBans } = await import('../policy/cluster-bans.ts');
  const { ClusterLedger } = await import('../policy/cluster-ledger.ts');
  const { QuotaShares } = await import('../auth/quota-shares.ts');
  const { openQuotas } = await import('../auth/quotas.ts');
  const { hasAuth } = await import('../session/settings.ts');
  const { redis } = config.scheduler;
  const { path, max_quota_users: users } = config.auth;
  const quotas = hasAuth(config) ? new QuotaShares(openQuotas(path, users)) : null;
  let rules = { of: config, greylist: new Greylist(config.policy.greylist, memory.greylist) };
  const greylist = (): Greylist => {
    const now = current();
    if (rules.of !== now) rules = { of: now, greylist: new Greylist(now.policy.greylist, memory.greylist) };
    return rules.greylist;
  };
  return new PolicyCluster({
    ...accessOf(redis),
    name: config.node_id,
    intervalMs: config.policy.sync_interval_ms,
    bans: new ClusterBans({
      table: memory.bans,
      forgetMs: () => current().policy.bans.forget_ms,
      maxEntries: config.policy.bans.max_entries,
    }),
    ledger: new ClusterLedger(memory, greylist, quotas),
    log,
    now: policyMs,
  });
}
