/** What is said of the folders for content before anything is started. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { keyPath } from '../../src/config/key-path.ts';
import type { Finding } from '../../src/config/say.ts';
import type { Config } from '../../src/config/schema.ts';
import { checkStoragePaths } from '../../src/storage/check-paths.ts';
import { makeConfig, type Overrides } from '../persistence/fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'paths-'));
after(() => rmSync(dir, { recursive: true, force: true }));
writeFileSync(join(dir, 'file'), '');
mkdirSync(join(dir, 'there'));

async function check(storage: NonNullable<Overrides['storage']>) {
  const config: Config = makeConfig(join(dir, 'data'), { storage });
  const [problems, warnings]: [Finding[], Finding[]] = [[], []];
  await checkStoragePaths(
    config,
    (path, message) => void problems.push({ path, message }),
    (path, message) => void warnings.push({ path, message }),
  );
  return { problems, warnings };
}

test('local: a folder that is there or can be made is good, anything else a problem', async () => {
  for (const path of [join(dir, 'there'), join(dir, 'to/be/made'), join(dir, 'data/mail')])
    assert.deepEqual(await check({ provider: 'local', local: { path } }), { problems: [], warnings: [] });
  assert.ok(!existsSync(join(dir, 'to')), 'nothing is made');
  for (const path of [join(dir, 'file'), join(dir, 'file/below/it')]) {
    const { problems } = await check({ provider: 'local', local: { path } });
    assert.deepEqual(problems[0]?.path, ['storage', 'local', 'path']);
    assert.match(problems[0]?.message as string, /file.* cannot be written: /);
  }
  if (process.getuid?.() !== 0) {
    mkdirSync(join(dir, 'closed'), { mode: 0o500 });
    const { problems } = await check({ provider: 'local', local: { path: join(dir, 'closed/mail') } });
    assert.match(problems[0]?.message as string, /EACCES/);
  }
  const unused = await check({ provider: 'database', local: { path: join(dir, 'file') } });
  assert.deepEqual(unused, { problems: [], warnings: [] });
});

test('distributed: a root that cannot be written is worth a word, as it may come back', async () => {
  const roots = [join(dir, 'there'), join(dir, 'new'), join(dir, 'file')];
  const { problems, warnings } = await check({ provider: 'distributed', distributed: { roots } });
  assert.deepEqual(problems, []);
  assert.deepEqual(
    warnings.map(({ path }) => keyPath(path)),
    ['storage.distributed.roots[2]'],
  );
});
