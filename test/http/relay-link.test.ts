/** How the HTTP plane asks the relay. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../src/base/log.ts';
import { ControlServer } from '../../src/control/server.ts';
import type { ControlTarget } from '../../src/control/target.ts';
import { RelayLink } from '../../src/http/relay-link.ts';
import { eventually } from '../support/wait.ts';

test('a connection that ended while nobody asked is made anew, and nobody notices', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'link-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'control.sock');
  let asked = 0;
  const shards = async (): Promise<[]> => {
    asked++;
    return [];
  };
  const target = { shards } as unknown as ControlTarget;
  const server = await ControlServer.start({ path, target, log: silentLog, idleMs: 50 });
  t.after(() => server.close());
  const link = new RelayLink(path);
  t.after(() => link.close());
  let used: { isOpen: boolean } | undefined;
  const ask = (): Promise<unknown> =>
    link.ask((client) => {
      used = client;
      return client.shards();
    }, 10_000);
  assert.deepEqual(await ask(), []);
  const first = used;
  await eventually(() => assert.equal(first?.isOpen, false));
  assert.deepEqual(await Promise.all([ask(), ask()]), [[], []]);
  assert.notEqual(used, first);
  assert.equal(asked, 3);
});
