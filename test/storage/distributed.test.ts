import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import type { DistributedStorageOptions } from '../../src/storage/distributed/distributed-storage.ts';
import { rank } from '../../src/storage/distributed/placement.ts';
import { Root } from '../../src/storage/distributed/root.ts';
import { pathOf } from '../../src/storage/object-name.ts';
import type { ContentRef } from '../../src/storage/storage.ts';
import { QueueFixture } from '../persistence/fixture.ts';
import { skipWithoutMount } from '../support/tmpfs.ts';
import { eventually } from '../support/wait.ts';
import { DistributedFixture } from './distributed-fixture.ts';
import { rootsIn } from './providers.ts';

const skip = skipWithoutMount();
const flip = (file: string, at: number): void => {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(file, bytes);
};

describe('placement of replicas', () => {
  const roots = ['/a', '/b', '/c', '/d'].map((path) => ({ path }));
  const objects = Array.from({ length: 4000 }, (_, i) => `dist:owner/2026-07-14/06dk${i}-x.bundle`);

  it('spreads objects evenly over every place', () => {
    for (const place of [0, 1, 2, 3]) {
      const counts = new Map<string, number>();
      for (const object of objects) {
        const path = rank(object, roots)[place]?.path as string;
        counts.set(path, (counts.get(path) ?? 0) + 1);
      }
      for (const [path, count] of counts)
        assert.ok(count > 850 && count < 1150, `${path} ${place}: ${count}`);
    }
  });

  it('keeps the order of the others when a root goes', () => {
    const fewer = roots.slice(0, 3);
    for (const object of objects)
      assert.deepEqual(
        rank(object, fewer),
        rank(object, roots).filter(({ path }) => path !== '/d'),
      );
  });
});

describe('storage distributed', () => {
  let fixture: DistributedFixture;
  const made: DistributedFixture[] = [];
  function use(options: Partial<DistributedStorageOptions> = {}, roots = 3): DistributedFixture {
    fixture = new DistributedFixture(options, roots);
    made.push(fixture);
    return fixture;
  }
  beforeEach(() => void use());
  afterEach(async () => {
    for (const one of made.splice(0)) await one.close();
  });

  it('writes one bundle for each commit to replica_count roots, byte for byte the same', async () => {
    const refs = await fixture.put('first', 'second', 'third');
    assert.equal(new Set(refs.map(({ object }) => object)).size, 1);
    const replicas = fixture.replicas(refs[0]);
    assert.equal(replicas.length, 2);
    assert.deepEqual(readFileSync(replicas[0] as string), readFileSync(replicas[1] as string));
    assert.equal(await fixture.load(refs[2]), 'third');
  });

  for (const [what, size] of [
    ['small', 1000],
    ['large', 500_000],
  ] as const)
    for (const wrong of ['flipped bit', 'cut off', 'gone'] as const)
      it(`reads ${what} content from the next replica and repairs the first: ${wrong}`, async () => {
        const text = 'x'.repeat(size);
        const [ref] = await fixture.put(text);
        const [replica = ''] = fixture.replicas(ref);
        const good = readFileSync(replica);
        if (wrong === 'flipped bit') flip(replica, (ref as ContentRef).offset + 500);
        else if (wrong === 'cut off') truncateSync(replica, 400);
        else rmSync(replica);
        assert.equal(await fixture.load(ref), text);
        const part = await fixture.storage.read(ref as ContentRef, 495, 10);
        assert.equal(Buffer.from(part).toString(), 'x'.repeat(10));
        await eventually(() => assert.ok(readFileSync(replica).equals(good)));
        assert.equal(fixture.replicas(ref).length, 2);
        await eventually(() => assert.equal(fixture.said('storage.replica_repaired').length, 1));
        assert.equal(fixture.arena.held, 0);
      });

  it('does not give out content of which no replica is good, and keeps the replicas', async () => {
    const [ref] = await fixture.put('precious');
    for (let i = 0; i < 8; i++) await fixture.put('so that every root has something of ours');
    for (const replica of fixture.replicas(ref)) flip(replica, (ref as ContentRef).offset);
    await assert.rejects(fixture.load(ref), { code: 'content_missing', message: /damaged/ });
    assert.equal(fixture.replicas(ref).length, 2);
  });

  it('says "not now" for content whose other roots cannot be asked', async () => {
    const [ref] = await fixture.put('precious');
    for (const replica of fixture.replicas(ref)) {
      const root = fixture.roots.find((path) => replica.startsWith(path)) as string;
      renameSync(root, `${root}.away`);
    }
    await assert.rejects(fixture.load(ref), { code: 'storage_unavailable' });
    for (const root of fixture.roots)
      if (!fixture.has(join(root, 'x')))
        try {
          renameSync(`${root}.away`, root);
        } catch {
          // This one was there all the time.
        }
    assert.equal(await fixture.load(ref), 'precious');
  });

  it('goes on without a root that was removed, and brings replicas to it when it is back', async () => {
    const before = await fixture.put('before');
    const [gone = ''] = fixture.replicas(before[0]);
    const root = fixture.roots.find((path) => gone.startsWith(path)) as string;
    rmSync(root, { recursive: true });
    const during: ContentRef[] = [];
    for (let i = 0; i < 8; i++) during.push(...(await fixture.put(`during ${i}`)));
    assert.equal(fixture.said('storage.root_aside')[0]?.root, root);
    for (const [i, ref] of during.entries()) {
      assert.equal(fixture.replicas(ref).length, 2);
      assert.equal(await fixture.load(ref), `during ${i}`);
    }
    mkdirSync(root);
    await eventually(() => assert.deepEqual(fixture.said('storage.root_returned'), [{ root }]));
    await eventually(() => assert.equal(fixture.replicas(before[0]).length, 2));
    assert.ok(fixture.has(gone));
  });

  it('below the quorum: a temporary error, in time, and nothing is left behind', async () => {
    use({ timeoutMs: 1000 });
    for (const root of fixture.roots.slice(1)) {
      mkdirSync(dirname(root), { recursive: true });
      writeFileSync(root, 'a file where the root should be');
    }
    const begun = performance.now();
    for (let i = 0; i < 3; i++)
      await assert.rejects(fixture.put('never'), {
        code: 'storage_unavailable',
        message: /root1: .*root2: /,
      });
    assert.ok(performance.now() - begun < 2000);
    await eventually(() => assert.deepEqual(fixture.files(0), []));
    for (const root of fixture.roots.slice(1)) {
      rmSync(root);
      mkdirSync(root);
    }
    await eventually(() => assert.equal(fixture.said('storage.root_returned').length, 2));
    const [ref] = await fixture.put('at last');
    assert.equal(await fixture.load(ref), 'at last');
  });

  it('acknowledges at the quorum and finishes the rest behind it', async (t) => {
    use({ writeQuorum: 1, timeoutMs: 5000 });
    const held = hold(t, (path) => path === fixture.roots[0]);
    const refs: ContentRef[] = [];
    for (let i = 0; i < 6; i++) refs.push(...(await fixture.put(`content ${i}`)));
    assert.ok(held.waiting() > 0, 'one of six objects belongs to every root');
    held.release();
    await eventually(() => {
      for (const ref of refs) assert.equal(fixture.replicas(ref).length, 2);
    });
    assert.deepEqual(fixture.said('storage.root_aside'), []);
  });

  it('takes another root for one that hangs, within the time, and the hanging one returns', async (t) => {
    use({ timeoutMs: 400 });
    const held = hold(t, (path) => path === fixture.roots[0]);
    const begun = performance.now();
    const refs: ContentRef[] = [];
    for (let i = 0; i < 6; i++) refs.push(...(await fixture.put(`content ${i}`)));
    assert.equal(held.waiting(), 1, 'what hangs is asked once');
    assert.ok(performance.now() - begun < 1500, 'and costs its time once');
    for (const [i, ref] of refs.entries()) assert.equal(await fixture.load(ref), `content ${i}`);
    assert.equal(fixture.said('storage.root_aside')[0]?.code, 'ETIMEDOUT');
    held.release();
    await eventually(() => assert.equal(fixture.said('storage.root_returned').length, 1));
  });

  it('fails in time when all roots hang, and lets go of spilled content once they end', async (t) => {
    use({ timeoutMs: 400 });
    const held = hold(t, () => true);
    const begun = performance.now();
    await assert.rejects(fixture.put('x'.repeat(300_000)), { code: 'storage_unavailable' });
    assert.ok(performance.now() - begun < 1500);
    await assert.rejects(fixture.put('small'), { code: 'storage_unavailable' });
    held.release();
    await eventually(() => assert.equal(fixture.arena.held, 0));
  });

  it('scrubs: finds what is missing or damaged without being asked for it', async () => {
    use({ scrubIntervalMs: 30 });
    const refs = await fixture.put('one', 'two');
    const [first = '', second = ''] = fixture.replicas(refs[0]);
    const good = readFileSync(first);
    flip(first, 20);
    await eventually(() => assert.ok(readFileSync(first).equals(good)));
    rmSync(second);
    await eventually(() => assert.ok(readFileSync(second).equals(good)));
    await eventually(() =>
      assert.deepEqual(fixture.said('storage.scrubbed').at(-1), { replicas: 2, wrong: 0 }),
    );
  });

  it('scrubs no faster than it may', async () => {
    use({ scrubIntervalMs: 20, scrubBytesPerS: 100_000 });
    await fixture.put('x'.repeat(20_000));
    const begun = performance.now();
    await eventually(() =>
      assert.ok(fixture.said('storage.scrubbed').some(({ replicas }) => replicas === 2)),
    );
    // Two replicas of 20 KB at 100 KB/s.
    assert.ok(performance.now() - begun > 300);
  });

  it('deletes more bundles at once than may wait for a root, and stores new ones meanwhile', async () => {
    const gone: string[] = [];
    for (let i = 0; i < 150; i++) gone.push(((await fixture.put(`content ${i}`))[0] as ContentRef).object);
    const removed = fixture.storage.remove(gone);
    const kept = await fixture.put('new mail');
    await removed;
    await eventually(() =>
      assert.deepEqual(
        new Set([0, 1, 2].flatMap((root) => fixture.files(root))),
        new Set(kept.map(({ object }) => pathOf(object))),
      ),
    );
    assert.deepEqual(fixture.said('storage.root_aside'), []);
  });

  for (const known of [true, false])
    it(`deletes what is on a root that is away once it is back, ${known ? 'aside before' : 'not known to be away'}`, async () => {
      const [ref] = await fixture.put('short-lived');
      const [, away = ''] = fixture.replicas(ref);
      const root = fixture.roots.find((path) => away.startsWith(path)) as string;
      renameSync(root, `${root}.away`);
      if (known)
        for (let i = 0; fixture.said('storage.root_aside').length === 0; i++) await fixture.put(`more ${i}`);
      await fixture.storage.remove([(ref as ContentRef).object]);
      await eventually(() => assert.deepEqual(fixture.replicas(ref), []));
      await eventually(() => assert.equal(fixture.said('storage.root_aside').length, 1));
      renameSync(`${root}.away`, root);
      await eventually(() => assert.equal(fixture.said('storage.root_returned').length, 1));
      await eventually(() => assert.ok(fixture.said('storage.scrubbed').length > 0));
      await eventually(() => assert.deepEqual(fixture.replicas(ref), []));
    });

  it('a copy that a repair makes while its object is deleted goes as well', async (t) => {
    const [deleted] = await fixture.put('short-lived');
    const [other] = await fixture.put('repaired after it');
    const [lost = '', source = ''] = fixture.replicas(deleted);
    const copying = Promise.withResolvers<void>();
    const mayCopy = Promise.withResolvers<void>();
    const mayDelete = Promise.withResolvers<void>();
    const { makeFolder, delete: del } = Root.prototype;
    t.mock.method(Root.prototype, 'makeFolder', async function (this: Root, folder: string) {
      copying.resolve();
      await mayCopy.promise;
      return makeFolder.call(this, folder);
    });
    let passedBy = false;
    t.mock.method(Root.prototype, 'delete', async function (this: Root, path: string) {
      if (source.startsWith(this.path)) await mayDelete.promise;
      await del.call(this, path);
      if (lost.startsWith(this.path)) passedBy = true;
    });
    for (const ref of [deleted, other]) {
      rmSync(fixture.replicas(ref)[0] as string);
      await fixture.load(ref);
    }
    await copying.promise;
    await fixture.storage.remove([(deleted as ContentRef).object]);
    await eventually(() => assert.ok(passedBy));
    mayCopy.resolve();
    await eventually(() => assert.equal(fixture.replicas(other).length, 2));
    mayDelete.resolve();
    await eventually(() => assert.deepEqual(fixture.replicas(deleted), []));
    assert.equal(fixture.said('storage.replica_repaired').length, 1);
  });

  it('sweeps its own folder and no other queue’s, and young objects only when it is alone', async () => {
    const [ref] = await fixture.put('orphan');
    const [root = ''] = fixture.roots;
    const foreign = join(root, 'other-owner', '2026-07-14', '06dk00000000000-x.bundle');
    mkdirSync(dirname(foreign), { recursive: true });
    writeFileSync(foreign, 'of another queue');
    const careful = new DistributedFixture({ sweepMinAgeMs: 3_600_000, roots: fixture.roots });
    assert.equal(await careful.storage.sweep(() => false), 0);
    assert.equal(fixture.replicas(ref).length, 2);
    await careful.close();
    assert.equal(await fixture.storage.sweep(() => false), 1);
    assert.deepEqual(fixture.replicas(ref), []);
    assert.equal(readFileSync(foreign, 'utf8'), 'of another queue');
    const [again] = await fixture.put('after the day’s folder was swept');
    assert.equal(fixture.replicas(again).length, 2);
  });

  it('a root that fills: others take over, full when none is left, and it returns', { skip }, async () => {
    fixture.mount(0, 256);
    const refs: ContentRef[] = [];
    const text = 'y'.repeat(50_000);
    for (let i = 0; i < 20; i++) refs.push(...(await fixture.put(text)));
    assert.equal(fixture.said('storage.root_aside')[0]?.code, 'ENOSPC');
    for (const ref of refs) assert.equal(await fixture.load(ref), text);
    await fixture.storage.remove(refs.map(({ object }) => object));
    for (const file of fixture.files(0)) rmSync(join(fixture.roots[0] as string, file));
    await eventually(() => assert.ok(fixture.said('storage.root_returned').length > 0));
    await eventually(async () => {
      await fixture.put('small again');
      assert.ok(fixture.files(0).length > 0);
    });
  });

  it('says full, for now, when the roots of a quorum are full', { skip }, async () => {
    use({}, 2);
    for (const root of [0, 1]) fixture.mount(root, 64);
    await assert.rejects(fixture.put('z'.repeat(200_000)), { code: 'storage_full' });
    await eventually(() =>
      assert.deepEqual([...fixture.files(0), ...fixture.files(1)], [], 'nothing half-written is left'),
    );
  });

  it('a root that turns read-only is put aside, still read, and returns', { skip }, async () => {
    const disk = fixture.mount(0, 4096);
    const before: ContentRef[] = [];
    for (let i = 0; i < 6; i++) before.push(...(await fixture.put(`before ${i}`)));
    disk.makeReadOnly(true);
    for (let i = 0; i < 6; i++) await fixture.put(`during ${i}`);
    assert.equal(fixture.said('storage.root_aside')[0]?.code, 'EROFS');
    for (const [i, ref] of before.entries()) {
      const replicas = fixture.replicas(ref);
      if (!replicas.some((replica) => replica.startsWith(disk.path))) continue;
      for (const replica of replicas) if (!replica.startsWith(disk.path)) rmSync(replica);
      assert.equal(await fixture.load(ref), `before ${i}`);
    }
    disk.makeReadOnly(false);
    await eventually(() => assert.equal(fixture.said('storage.root_returned').length, 1));
  });

  it('writes nothing into the empty mount point of a disk that is gone', { skip }, async () => {
    const disk = fixture.mount(0, 4096);
    for (let i = 0; i < 6; i++) await fixture.put(`before ${i}`);
    assert.ok(fixture.files(0).length > 0);
    disk.unmount();
    for (let i = 0; i < 6; i++) await fixture.put(`during ${i}`);
    assert.deepEqual(fixture.files(0), []);
    assert.equal(fixture.said('storage.root_aside')[0]?.code, 'ENODEV');
    disk.mount(4096);
    await eventually(() => assert.equal(fixture.said('storage.root_returned').length, 1));
    await eventually(() => assert.ok(fixture.files(0).length > 0));
  });
});

describe('queue with distributed storage', () => {
  it('a commit below the quorum fails whole and for now; the same messages commit when roots are back', async () => {
    const queue = new QueueFixture({
      storage: {
        provider: 'distributed',
        distributed: {
          roots: ['/dev/null/a', '/dev/null/b'],
          replica_count: 2,
          write_quorum: 1,
          timeout_ms: 500,
        },
      },
    });
    const message = queue.message(['a@one.test']);
    const batch = queue.batch({ messages: [queue.plan(message)] });
    await assert.rejects(queue.database.commit(batch), { code: 'storage_unavailable', temporary: true });
    assert.equal((await queue.database.stats()).mails, 0);
    await queue.restart({
      storage: {
        provider: 'distributed',
        distributed: { roots: rootsIn(queue.dataDir), replica_count: 3, write_quorum: 2 },
      },
    });
    assert.deepEqual((await queue.database.commit(batch)).messages, ['committed']);
    assert.match((await queue.cat(message.queueId)) ?? '', /content of/);
    await queue.close();
  });

  it('content of a provider that is no longer configured waits', async () => {
    const queue = new QueueFixture();
    const distributed = { roots: rootsIn(queue.dataDir) };
    await queue.restart({ storage: { provider: 'distributed', distributed } });
    const queueId = await queue.add(['a@one.test']);
    await queue.restart({ storage: { provider: 'database' } });
    await assert.rejects(queue.cat(queueId), {
      code: 'storage_unavailable',
      message: /storage\.distributed\.roots/,
    });
    await queue.restart({ storage: { provider: 'database', distributed } });
    assert.match((await queue.cat(queueId)) ?? '', /content of/);
    await queue.close();
  });
});

/** Writes of the roots chosen wait until they are released: a disk that hangs. */
function hold(t: TestContext, chosen: (path: string) => boolean): { waiting(): number; release(): void } {
  const create = Root.prototype.create;
  const { promise, resolve } = Promise.withResolvers<void>();
  let waiting = 0;
  t.mock.method(Root.prototype, 'create', async function (this: Root, ...given: Parameters<Root['create']>) {
    if (chosen(this.path)) {
      waiting++;
      await promise;
    }
    await create.apply(this, given);
  });
  return { waiting: () => waiting, release: resolve };
}
