/** Two nodes on MariaDB whose mail lies on three roots: what clients are told when those fill up, and what comes of it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { skipWithoutMariaDb } from '../services/mariadb.ts';
import { startNode, startServer, startSink } from '../support/nodes.ts';
import { deliveries, oneFateEach } from '../support/one-fate.ts';
import { bounded } from '../support/relay-fixture.ts';
import { SteadyLoad } from '../support/steady-load.ts';
import { skipWithoutMount, Tmpfs } from '../support/tmpfs.ts';
import { eventually } from '../support/wait.ts';

const skip = skipWithoutMariaDb() || skipWithoutMount();
const ROOT_KB = 4096;

/** Takes all the room of a root. @returns what gives it back. */
function fill({ path }: Tmpfs): () => void {
  const file = join(path, 'filler');
  for (let bytes = ROOT_KB * 1024; bytes >= 512; ) {
    try {
      writeFileSync(file, Buffer.alloc(bytes), { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      bytes /= 2;
    }
  }
  return () => rmSync(file);
}

test('roots fill under load: with two left mail goes on, with one 452, with room again all goes; one fate each', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { access } = await startServer(t);
  const sink = await startSink(t);
  const folder = mkdtempSync(join(tmpdir(), 'full-'));
  const roots = ['a', 'b', 'c'].map((name) => new Tmpfs(join(folder, name), ROOT_KB));
  t.after(() => {
    for (const root of roots) root.unmount();
    rmSync(folder, { recursive: true, force: true });
  });
  const settings = {
    database: { driver: 'mysql', ...access },
    // The disks themselves are to say that they are full.
    persist_min_free_disk_mb: 0,
    storage: {
      provider: 'distributed',
      distributed: { roots: roots.map(({ path }) => path), replica_count: 2, write_quorum: 2 },
    },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
  };
  const nodes = [await startNode(t, 'a', folder, settings), await startNode(t, 'b', folder, settings)];
  const [first, second] = roots as [Tmpfs, Tmpfs];
  const load = new SteadyLoad(() => nodes.map(({ port }) => port), 10, 'one.test', 20);
  t.after(() => load.stop());
  const accepted = (count: number): Promise<void> =>
    bounded(load.more(count), 30_000, () => `${load.refused.at(-1)}\n${nodes[0]?.output()}`);
  await accepted(100);
  const empty = [fill(first)];
  await accepted(300);
  empty.push(fill(second));
  await eventually(() => assert.match(load.refused.at(-1) ?? '', /452 4\.3\.1/));
  await sleep(500);
  for (const give of empty) give();
  await accepted(300);
  await load.stop();
  // At the end of the content, or at MAIL already.
  for (const reply of load.refused) assert.match(reply, /^((?:MAIL FROM|RCPT TO):\S+: )?45[12] 4\.3\.[01]/);
  await oneFateEach(nodes, load.acknowledged, 30_000);
  for (const [recipient, times] of deliveries(sink)) assert.equal(times, 1, `${recipient} came so often`);
});
