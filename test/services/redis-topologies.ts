/** A Redis Cluster of three masters, and a master with a replica and three sentinels: each server on loopback, ended by its pid. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { eventually } from '../support/wait.ts';
import { RedisServer } from './redis.ts';

const SLOTS = 16_384;

export interface Topology {
  nodes: string[];
  servers: RedisServer[];
  close(): Promise<void>;
}

const closing = (servers: RedisServer[]) => async (): Promise<void> => {
  await Promise.all(servers.map((server) => server.close()));
};

export async function startCluster(): Promise<Topology> {
  const servers: RedisServer[] = [];
  for (let i = 0; i < 3; i++) {
    const bus = await freePort();
    const args = [
      '--cluster-enabled',
      'yes',
      '--cluster-node-timeout',
      '2000',
      '--cluster-port',
      String(bus),
    ];
    servers.push(await RedisServer.start({ args }));
    const from = Math.floor((SLOTS * i) / 3);
    const to = Math.floor((SLOTS * (i + 1)) / 3) - 1;
    const [first] = servers as [RedisServer];
    const server = servers[i] as RedisServer;
    await server.ask((client) => client.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to)));
    if (i > 0)
      await first.ask((client) =>
        client.call('CLUSTER', 'MEET', '127.0.0.1', String(server.port), String(bus)),
      );
  }
  for (const server of servers)
    await eventually(async () => {
      const info = String(await server.ask((client) => client.call('CLUSTER', 'INFO')));
      if (!info.includes('cluster_state:ok') || !info.includes('cluster_known_nodes:3'))
        throw new Error(info);
    }, 20_000);
  return { nodes: servers.map(({ port }) => `127.0.0.1:${port}`), servers, close: closing(servers) };
}

/** The master is the first of the servers, its replica the second; then the sentinels. */
export async function startSentinels(): Promise<Topology> {
  const master = await RedisServer.start();
  const replica = await RedisServer.start({ args: ['--replicaof', '127.0.0.1', String(master.port)] });
  const servers = [master, replica];
  const sentinels: RedisServer[] = [];
  for (let i = 0; i < 3; i++) {
    const file = join(replica.folder, `sentinel-${i}.conf`);
    writeFileSync(
      file,
      `sentinel monitor mymaster 127.0.0.1 ${master.port} 2\nsentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 4000\n`,
    );
    const sentinel = await RedisServer.startSentinel(file);
    sentinels.push(sentinel);
    servers.push(sentinel);
  }
  for (const sentinel of sentinels)
    await eventually(async () => {
      const [info] = (await sentinel.ask((client) => client.call('SENTINEL', 'MASTERS'))) as string[][];
      const of = (name: string) => info?.[info.indexOf(name) + 1];
      if (of('num-slaves') !== '1' || of('num-other-sentinels') !== '2') throw new Error(String(info));
    }, 30_000);
  return { nodes: sentinels.map(({ port }) => `127.0.0.1:${port}`), servers, close: closing(servers) };
}
