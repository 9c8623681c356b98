/** The storage providers as the conformance suite sees them. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { WebHdfsServer } from '../services/webhdfs-server.ts';
import type { Provider } from './conformance.ts';

/** Every file below a folder, relative to it. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  );
}

/** A path through a file answers ENOTDIR, as a disk in trouble answers EIO. */
function blockFile(dataDir: string, path: string): () => void {
  const moved = `${path}.moved`;
  renameSync(path, moved);
  writeFileSync(join(dataDir, 'file'), '');
  symlinkSync(join(dataDir, 'file', 'x'), path);
  return () => {
    rmSync(path);
    renameSync(moved, path);
  };
}

function inFolder(name: 'database' | 'local', folder: string): Provider {
  return {
    name,
    settings: () => ({}),
    objects: (dataDir) => filesBelow(join(dataDir, folder)),
    lose: (dataDir) => rmSync(join(dataDir, folder), { recursive: true }),
    block: (dataDir, object) => blockFile(dataDir, join(dataDir, folder, object)),
  };
}

export const databaseProvider = inFolder('database', 'content');
export const localProvider = inFolder('local', 'mail');

export const rootsIn = (dataDir: string, count = 3): string[] =>
  Array.from({ length: count }, (_, i) => join(dataDir, `root${i}`));

export const distributedProvider: Provider = {
  name: 'distributed',
  settings: (dataDir) => ({ distributed: { roots: rootsIn(dataDir, 2), replica_count: 2, write_quorum: 2 } }),
  objects: (dataDir) => [...new Set(rootsIn(dataDir, 2).flatMap(filesBelow))],
  lose(dataDir) {
    for (const root of rootsIn(dataDir, 2)) for (const file of filesBelow(root)) rmSync(join(root, file));
  },
  block(dataDir, object) {
    const replicas = rootsIn(dataDir, 2).map((root) => join(root, object));
    const undo = replicas.filter((file) => existsSync(file)).map((file) => blockFile(dataDir, file));
    return () => {
      for (const one of undo) one();
    };
  },
};

/** Each queue has a base path of its own, named as its data folder. */
export function hdfsProvider(server: WebHdfsServer): Provider {
  const base = (dataDir: string): string => `/mail/${basename(dataDir)}`;
  return {
    name: 'hdfs_web',
    start: async () => void (await server.start()),
    stop: () => server.stop(),
    settings: (dataDir) => ({
      hdfs_web: { endpoints: server.endpoints, base_path: base(dataDir), user: 'hdfs', replication: 1 },
    }),
    objects: (dataDir) => server.paths.filter((path) => path.startsWith(`${base(dataDir)}/`)),
    lose: () => server.files.clear(),
    block(_, object) {
      server.fault = ({ op, path }) => (op === 'OPEN' && path === object ? { status: 403 } : undefined);
      return () => {
        server.fault = () => undefined;
      };
    },
    check: () => assert.deepEqual(server.violations, []),
  };
}
