import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { afterEach, describe, it } from 'node:test';
import { HdfsWebStorage, type HdfsWebStorageOptions } from '../../src/storage/hdfs-web/hdfs-web-storage.ts';
import type { StorageNote } from '../../src/storage/notes.ts';
import { ObjectNames, SCHEME } from '../../src/storage/object-name.ts';
import type { ContentRef } from '../../src/storage/storage.ts';
import {
  type Fault,
  type Seen,
  WebHdfsServer,
  type WebHdfsServerOptions,
} from '../services/webhdfs-server.ts';
import { eventually } from '../support/wait.ts';
import { ProviderFixture, SPILL_BYTES } from './provider-fixture.ts';

const LARGE = 1_500_000;

class HdfsFixture extends ProviderFixture {
  readonly server: WebHdfsServer;
  #storage: HdfsWebStorage | null = null;
  readonly #options: Partial<HdfsWebStorageOptions>;

  constructor(options: Partial<HdfsWebStorageOptions>, server: WebHdfsServerOptions) {
    super('hdfs-web');
    this.#options = options;
    this.server = new WebHdfsServer(server);
  }

  async start(): Promise<this> {
    await this.server.start();
    return this;
  }

  get storage(): HdfsWebStorage {
    this.#storage ??= new HdfsWebStorage(this.arena, {
      endpoints: this.server.endpoints,
      basePath: '/proto relay/ä',
      user: 'hdfs',
      delegationToken: null,
      replication: 3,
      timeoutMs: 2000,
      maxWriteBufferBytes: 67_108_864,
      spillThresholdBytes: SPILL_BYTES,
      spillDir: this.dir,
      sweepMinAgeMs: 0,
      names: new ObjectNames(SCHEME.hdfsWeb, () => 'owner'),
      say: (note) => this.notes.push(note),
      ...this.#options,
    });
    return this.#storage;
  }

  /** This fault for the requests it fits, so many times. */
  inject(
    fault: Fault,
    fits: (request: Seen) => boolean,
    times = Number.POSITIVE_INFINITY,
  ): { times(): number } {
    let met = 0;
    this.server.fault = (request) => (fits(request) && met < times && ++met > 0 ? fault : undefined);
    return { times: () => met };
  }

  said(event: StorageNote['event']): number {
    return this.notes.filter((note) => note.event === event).length;
  }

  async close(): Promise<void> {
    await this.storage.close();
    await this.server.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Milliseconds until `work` rejects as expected. */
async function rejects(work: Promise<unknown>, expected: object): Promise<number> {
  const begun = performance.now();
  await assert.rejects(work, expected);
  return performance.now() - begun;
}

const op =
  (name: string, where?: Seen['where']) =>
  (request: Seen): boolean =>
    request.op === name && (where === undefined || request.where === where);

describe('storage hdfs_web', () => {
  let fixture: HdfsFixture;
  let mayViolate = false;
  async function use(
    options: Partial<HdfsWebStorageOptions> = {},
    server: WebHdfsServerOptions = {},
  ): Promise<HdfsFixture> {
    mayViolate = false;
    fixture = await new HdfsFixture(options, server).start();
    return fixture;
  }
  afterEach(async () => {
    await fixture.close();
    if (!mayViolate) assert.deepEqual(fixture.server.violations, []);
    assert.equal(fixture.arena.held, 0);
  });

  it('writes as the specification has it: no body before the redirect, user and parameters on both steps', async () => {
    await use();
    const [ref] = await fixture.put('some content');
    const { seen } = fixture.server;
    assert.deepEqual(
      seen.map((one) => [one.where, one.method, one.op, one.bodyBytes > 0, one.params['user.name']]),
      [
        ['namenode', 'PUT', 'MKDIRS', false, 'hdfs'],
        ['namenode', 'PUT', 'CREATE', false, 'hdfs'],
        ['datanode', 'PUT', 'CREATE', true, 'hdfs'],
      ],
    );
    for (const { params } of fixture.server.requests('CREATE'))
      assert.deepEqual([params.overwrite, params.replication, params.permission], ['true', '3', '600']);
    assert.equal(seen[0]?.params.permission, '700');
    const [path = ''] = fixture.server.paths;
    assert.match(path, /^\/proto relay\/ä\/owner\/\d{4}-\d\d-\d\d\/06dk00000000000-\w+\.bundle$/);
    assert.equal(await fixture.load(ref), 'some content');
    const [open] = fixture.server.requests('OPEN', 'datanode');
    assert.equal(open?.params.offset, String(ref?.offset));
    await fixture.put('the folder of the day is made once');
    assert.equal(fixture.server.requests('MKDIRS').length, 1);
  });

  it('sends a delegation token instead of the user, and tells it to nobody', async () => {
    const token = 'JQAIaG9y-secret';
    await use({ delegationToken: token }, { token });
    const [ref] = await fixture.put('secured');
    assert.equal(await fixture.load(ref), 'secured');
    fixture.inject({ status: 401, exception: 'InvalidToken', message: 'token expired' }, () => true);
    await assert.rejects(fixture.put('more'), (error: Error) => {
      assert.match(error.message, /InvalidToken: token expired/);
      assert.ok(!error.message.includes('secret'));
      return true;
    });
  });

  it('a user who may not: permanent for writing, and reading waits', async () => {
    await use();
    const [ref] = await fixture.put('there');
    fixture.inject(
      { status: 403, exception: 'AccessControlException', message: 'Permission denied' },
      () => true,
    );
    await rejects(fixture.put('more'), { code: 'storage_failed', message: /Permission denied.*base_path/ });
    await rejects(fixture.load(ref), { code: 'storage_unavailable' });
  });

  it('passes over a standby namenode and remembers the active one, through fail-overs', async () => {
    await use({}, { namenodes: 3 });
    fixture.server.active = 2;
    const [first] = await fixture.put('first');
    assert.equal(fixture.said('storage.endpoint_changed'), 1);
    const asked = fixture.server.seen.length;
    await fixture.put('second');
    assert.deepEqual(
      fixture.server.seen
        .slice(asked)
        .filter(({ where }) => where === 'namenode')
        .map(({ index }) => index),
      [2],
    );
    fixture.server.active = 0;
    assert.equal(await fixture.load(first), 'first');
    assert.equal(fixture.said('storage.endpoint_changed'), 2);
  });

  it('passes over a namenode that is dead, and one that hangs within its share of the time', async () => {
    await use({}, { namenodes: 2 });
    const dead = new HdfsWebStorage(fixture.arena, {
      endpoints: ['http://127.0.0.1:1', ...fixture.server.endpoints],
      basePath: '/p',
      user: 'hdfs',
      delegationToken: null,
      replication: 1,
      timeoutMs: 1000,
      maxWriteBufferBytes: 1_000_000,
      spillThresholdBytes: SPILL_BYTES,
      spillDir: fixture.dir,
      sweepMinAgeMs: 0,
      names: new ObjectNames(SCHEME.hdfsWeb, () => 'owner'),
      say: () => {},
    });
    fixture.server.active = 1;
    fixture.inject('hang', ({ where, index }) => where === 'namenode' && index === 0);
    const content = fixture.arena.store(Buffer.from('x'));
    const begun = performance.now();
    const refs = await dead.put([{ queueId: '06dk00000000000', content, lengthBytes: 1 }]);
    assert.ok(performance.now() - begun < 2000);
    assert.equal(refs.length, 1);
    fixture.arena.release(content);
    await dead.close();
  });

  for (const status of [500, 502, 503, 504, 408, 429])
    it(`tries again after ${status}, and goes on when it passes`, async () => {
      await use();
      const fault = fixture.inject({ status, text: '<html>try later</html>' }, op('CREATE', 'namenode'), 2);
      const [ref] = await fixture.put('patient');
      assert.equal(fault.times(), 2);
      assert.equal(await fixture.load(ref), 'patient');
    });

  it('fails for now when it does not pass, in time; then at once for a while; then goes on', async () => {
    await use({ timeoutMs: 500 });
    const fault = fixture.inject({ status: 503 }, () => true);
    assert.ok((await rejects(fixture.put('a'), { code: 'storage_unavailable', message: /503/ })) < 1500);
    assert.ok(fault.times() >= 3, `${fault.times()} tries`);
    const tries = fault.times();
    assert.ok((await rejects(fixture.put('b'), { code: 'storage_unavailable' })) < 250);
    assert.equal(fault.times(), tries, 'nobody was asked');
    fixture.server.fault = () => undefined;
    await eventually(async () => void (await fixture.put('c')));
    assert.deepEqual([fixture.said('storage.unreachable'), fixture.said('storage.reachable')], [1, 1]);
  });

  for (const [exception, status, code] of [
    ['IllegalArgumentException', 400, 'storage_failed'],
    ['UnsupportedOperationException', 400, 'storage_failed'],
    ['FileAlreadyExistsException', 403, 'storage_failed'],
    ['DSQuotaExceededException', 403, 'storage_full'],
    ['NSQuotaExceededException', 403, 'storage_full'],
  ] as const)
    it(`does not try again after ${exception}: ${code}, with what HDFS says`, async () => {
      await use();
      const message = `The reason.\norg.apache.hadoop.Stack(trace)`;
      const fault = fixture.inject({ status, exception, message }, op('CREATE'));
      await rejects(fixture.put('a'), { code, message: new RegExp(`${exception}: The reason\\.(;|$)`) });
      assert.equal(fault.times(), 1);
    });

  for (const exception of ['SafeModeException', 'RetriableException', 'IOException'])
    it(`takes ${exception} for something that passes, although it is a 403`, async () => {
      await use();
      fixture.inject({ status: 403, exception }, op('CREATE'), 1);
      assert.equal(await fixture.load((await fixture.put('kept'))[0]), 'kept');
    });

  it('a hanging datanode: fails in time, writing rests, reading goes on', async () => {
    await use({ timeoutMs: 600 });
    const [ref] = await fixture.put('before');
    fixture.inject('hang', op('CREATE', 'datanode'));
    assert.ok(
      (await rejects(fixture.put('a'), { code: 'storage_unavailable', message: /no answer within/ })) < 1500,
    );
    assert.ok((await rejects(fixture.put('b'), { code: 'storage_unavailable' })) < 250);
    assert.equal(await fixture.load(ref), 'before');
    fixture.server.fault = () => undefined;
    await eventually(async () => void (await fixture.put('c')));
  });

  it('a hanging namenode: fails in time, reading and writing', async () => {
    await use({ timeoutMs: 600 });
    const [ref] = await fixture.put('before');
    fixture.inject('hang', () => true);
    assert.ok((await rejects(fixture.load(ref), { code: 'storage_unavailable' })) < 1500);
    assert.ok((await rejects(fixture.put('a'), { code: 'storage_unavailable' })) < 250);
  });

  it('asks for another datanode when the redirect leads to a dead one', async () => {
    await use({}, { datanodes: 2 });
    fixture.inject('dead-datanode', op('CREATE', 'namenode'), 1);
    const [ref] = await fixture.put('elsewhere');
    assert.equal(
      fixture.server.requests('CREATE', 'namenode')[1]?.params.excludedatanodes?.split('.').length,
      4,
    );
    fixture.inject('dead-datanode', op('OPEN', 'namenode'), 1);
    assert.equal(await fixture.load(ref), 'elsewhere');
  });

  it('with one datanode, asks for it again when there is no other', async () => {
    await use();
    fixture.inject('dead-datanode', op('CREATE', 'namenode'), 1);
    assert.equal(await fixture.load((await fixture.put('the same'))[0]), 'the same');
  });

  it('a redirect that leads nowhere is an error with a name', async () => {
    await use();
    fixture.inject({ status: 307, text: '' }, op('CREATE'));
    await rejects(fixture.put('a'), { code: 'storage_failed', message: /redirects to no datanode/ });
  });

  for (const fault of ['reset', 'reset-in-body'] as const)
    for (const size of [1000, LARGE])
      it(`${fault} at the datanode, ${size} bytes: tried again from the beginning, both ways`, async () => {
        await use();
        const text = Array.from({ length: size / 10 }, (_, i) => String(i).padStart(9, '0'))
          .join('\n')
          .padEnd(size);
        const writing = fixture.inject(fault, op('CREATE', 'datanode'), 1);
        const [ref] = await fixture.put(text);
        const reading = fixture.inject(fault, op('OPEN', 'datanode'), 1);
        assert.ok((await fixture.load(ref)) === text);
        assert.deepEqual([writing.times(), reading.times()], [1, 1]);
        assert.deepEqual(readdirSync(fixture.dir), [], 'no file stays behind');
      });

  for (const size of [500, LARGE])
    it(`does not give out ${size} bytes that are not what was stored`, async () => {
      await use();
      const [ref] = await fixture.put('z'.repeat(size));
      for (const file of fixture.server.files.values()) file.bytes[400] = 0;
      await rejects(fixture.load(ref), { code: 'content_missing', message: /checksum/ });
      for (const file of fixture.server.files.values()) file.bytes = file.bytes.subarray(0, 450);
      await rejects(fixture.load(ref), { code: 'content_missing' });
      fixture.server.files.clear();
      await rejects(fixture.load(ref), { code: 'content_missing', message: /is not there/ });
      assert.equal(fixture.said('storage.content_damaged'), 2);
    });

  it('reads the contents of one bundle ahead: one request for many', async () => {
    await use();
    const contents = Array.from({ length: 100 }, (_, i) => `content ${i} ${'.'.repeat(1000)}`);
    const refs = await fixture.put(...contents);
    for (const [i, ref] of refs.entries()) assert.equal(await fixture.load(ref), contents[i]);
    assert.equal(fixture.server.requests('OPEN', 'datanode').length, 1);
    const part = await fixture.storage.read(refs[7] as ContentRef, 8, 3);
    assert.equal(Buffer.from(part).toString(), '7 .');
    assert.equal((await fixture.storage.read(refs[7] as ContentRef, 99_999, 3)).length, 0);
  });

  it('makes several files of a commit beyond max_write_buffer_bytes', async () => {
    await use({ maxWriteBufferBytes: 65_536 });
    const contents = Array.from({ length: 10 }, (_, i) => String(i).repeat(30_000));
    const refs = await fixture.put(...contents);
    assert.equal(fixture.server.paths.length, 5);
    for (const file of fixture.server.files.values()) assert.ok(file.bytes.length < 65_536);
    for (const [i, ref] of refs.entries()) assert.equal(await fixture.load(ref), contents[i]);
  });

  it('stores nothing of a commit of which one file fails', async () => {
    await use({ timeoutMs: 300 });
    let creates = 0;
    fixture.server.fault = (request) =>
      op('CREATE', 'datanode')(request) && ++creates > 1 ? { status: 500 } : undefined;
    await rejects(fixture.put('x'.repeat(300_000), 'y'.repeat(300_000), 'small'), {
      code: 'storage_unavailable',
    });
    fixture.server.fault = () => undefined;
    await eventually(async () => {
      await fixture.storage.sweep(() => false);
      assert.deepEqual(fixture.server.paths, []);
    });
  });

  it('deletes behind the commits, and sweeps what it could not delete, page by page', async () => {
    await use({}, { pageSize: 3 });
    const refs: ContentRef[] = [];
    for (let i = 0; i < 8; i++) refs.push(...(await fixture.put(`content ${i}`)));
    fixture.inject({ status: 400, exception: 'IllegalArgumentException' }, op('DELETE'));
    const gone = refs.slice(0, 5).map(({ object }) => object);
    await fixture.storage.remove(gone);
    await eventually(() => assert.equal(fixture.server.requests('DELETE').length, 5));
    fixture.server.fault = () => undefined;
    assert.equal(fixture.server.paths.length, 8);
    assert.equal(await fixture.storage.sweep((object) => !gone.includes(object)), 5);
    await eventually(() => assert.equal(fixture.server.paths.length, 3));
    assert.ok(fixture.server.requests('LISTSTATUS_BATCH').length > 3);
  });

  it('sweeps by LISTSTATUS where pages are not known, other owners’ folders never', async () => {
    mayViolate = false;
    await use();
    await fixture.put('orphan');
    fixture.server.folders.set('/proto relay/ä/other', '700');
    const foreign = '/proto relay/ä/other/2026-07-14/06dk00000000000-x.bundle';
    const [file] = [...fixture.server.files.values()];
    fixture.server.files.set(foreign, { ...(file as NonNullable<typeof file>) });
    fixture.inject({ status: 400, exception: 'IllegalArgumentException' }, op('LISTSTATUS_BATCH'));
    assert.equal(await fixture.storage.sweep(() => false), 1);
    await eventually(() => assert.deepEqual(fixture.server.paths, [foreign]));
  });

  it('a sweep of a cluster that is down is no error', async () => {
    await use({ timeoutMs: 200 });
    fixture.inject('reset', () => true);
    assert.equal(await fixture.storage.sweep(() => false), 0);
  });

  it('checks itself: a request that breaks the specification is refused and remembered', async () => {
    await use();
    mayViolate = true;
    const [endpoint = ''] = fixture.server.endpoints;
    for (const [method, path] of [
      ['PUT', '/webhdfs/v1/a?op=CREATE&user.name=hdfs&overwrite=yes&replication=1&permission=600'],
      ['GET', '/webhdfs/v1/a?op=CREATE&user.name=hdfs&overwrite=true&replication=1&permission=600'],
      ['PUT', '/webhdfs/v1/a?op=MKDIRS'],
      ['GET', '/webhdfs/v1/a?op=OPEN&user.name=hdfs&offset=-1&length=2'],
      ['DELETE', '/a?op=DELETE&recursive=false&user.name=hdfs'],
    ] as const)
      assert.equal((await fetch(endpoint + path, { method })).status, 400, path);
    assert.equal(fixture.server.violations.length, 5);
  });
});
