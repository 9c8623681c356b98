/** Opens the providers of the config: one takes new content, the others still give back what they have. */
import type { Config } from '../config/schema.ts';
import type { Arena } from '../native.ts';
import { DistributedStorage } from './distributed/distributed-storage.ts';
import { HdfsWebStorage } from './hdfs-web/hdfs-web-storage.ts';
import { LocalStorage } from './local-storage.ts';
import type { SayNote } from './notes.ts';
import { ObjectNames, type ProviderName, providerOf, SCHEME } from './object-name.ts';
import type { Storage } from './storage.ts';
import { StorageByRef } from './storage-by-ref.ts';
import { UnconfiguredStorage } from './unconfigured-storage.ts';

const MIB = 1_048_576;

export interface StorageSetup {
  /** Its paths are absolute. */
  config: Config;
  arena: Arena;
  spillDir: string;
  /** The provider that keeps content in the queue database itself. */
  database: Storage;
  /** Names the queue database among all that share a root or a base path; letters and digits. */
  owner(): string;
  /** Least age of objects to sweep. 0 where this thread is the database's only writer: then no commit can still be coming. */
  sweepMinAgeMs: number;
  say: SayNote;
}

export function openStorage(setup: StorageSetup): Storage {
  const { config, database } = setup;
  const providers: Record<ProviderName, Storage> = {
    database,
    local: openLocal(setup),
    distributed: openDistributed(setup),
    hdfs_web: openHdfsWeb(setup),
  };
  const current = providers[config.storage.provider];
  const others = Object.values(providers).filter((provider) => provider !== current);
  return new StorageByRef(current, others, (object) => providers[providerOf(object)]);
}

function openLocal({ config, arena, sweepMinAgeMs, say }: StorageSetup): Storage {
  return new LocalStorage(arena, {
    folder: config.storage.local.path,
    spillThresholdBytes: config.spill_threshold_bytes,
    sweepMinAgeMs,
    say,
  });
}

function openDistributed({ config, arena, owner, sweepMinAgeMs, say }: StorageSetup): Storage {
  const { distributed } = config.storage;
  if (distributed.roots.length === 0) return new UnconfiguredStorage('storage.distributed.roots');
  return new DistributedStorage(arena, {
    roots: distributed.roots,
    replicaCount: distributed.replica_count,
    writeQuorum: distributed.write_quorum,
    timeoutMs: distributed.timeout_ms,
    scrubIntervalMs: distributed.scrub_interval_ms,
    scrubBytesPerS: distributed.scrub_mb_per_s * MIB,
    spillThresholdBytes: config.spill_threshold_bytes,
    sweepMinAgeMs,
    names: new ObjectNames(SCHEME.distributed, owner),
    say,
  });
}

function openHdfsWeb({ config, arena, spillDir, owner, sweepMinAgeMs, say }: StorageSetup): Storage {
  const { hdfs_web } = config.storage;
  if (hdfs_web.endpoints.length === 0) return new UnconfiguredStorage('storage.hdfs_web.endpoints');
  return new HdfsWebStorage(arena, {
    endpoints: hdfs_web.endpoints.map((endpoint) => endpoint.replace(/\/+$/, '')),
    basePath: hdfs_web.base_path,
    user: hdfs_web.user,
    delegationToken: hdfs_web.delegation_token ?? null,
    replication: hdfs_web.replication,
    timeoutMs: hdfs_web.timeout_ms,
    maxWriteBufferBytes: hdfs_web.max_write_buffer_bytes,
    spillThresholdBytes: config.spill_threshold_bytes,
    spillDir,
    sweepMinAgeMs,
    names: new ObjectNames(SCHEME.hdfsWeb, owner),
    say,
  });
}
