/** Policies of MTA-STS over restarts: what is on disk, what is fetched again, and what a file that is damaged does. */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Aside } from '../../src/base/aside.ts';
import { silentLog } from '../../src/base/log.ts';
import type { DnsAnswer } from '../../src/delivery/names/dns.ts';
import { MtaSts, type StsFailure } from '../../src/delivery/security/mta-sts.ts';
import type { StsPolicy } from '../../src/delivery/security/sts-policy.ts';
import { StsRefresh } from '../../src/delivery/security/sts-refresh.ts';
import { StsStore } from '../../src/delivery/security/sts-store.ts';
import { eventually } from '../support/wait.ts';

const root = mkdtempSync(join(tmpdir(), 'sts-'));
after(() => rmSync(root, { recursive: true }));
const policyText = (mode = 'enforce', maxAge = 1000): string =>
  `version: STSv1\nmode: ${mode}\nmx: mx.one.test\nmax_age: ${maxAge}\n`;
const found = (id: string): DnsAnswer<string> => ({ kind: 'found', records: [`v=STSv1; id=${id}`] });

/** A host: its folder, its clock, what DNS and HTTPS say; threads of it come and go. */
class Host {
  nowMs = Date.UTC(2026, 0, 15);
  record: DnsAnswer<string> = found('1');
  text: string | Error = policyText();
  readonly dir = join(root, `${readdirSync(root).length}`, 'mta-sts');
  readonly warned: string[] = [];
  readonly fetched: string[] = [];
  readonly failures: [string, string, string][] = [];
  #writers = 0;

  constructor() {
    mkdirSync(join(this.dir, '..'));
  }

  store(maxDomains = 100): StsStore {
    return new StsStore({
      dir: this.dir,
      maxDomains,
      writer: `${this.#writers++}`,
      warn: (event) => void this.warned.push(event),
      now: () => this.nowMs,
    });
  }

  readonly #shared = {
    dns: { txt: async () => this.record },
    now: () => this.nowMs,
    fetch: async (domain: string): Promise<string> => {
      this.fetched.push(domain);
      if (this.text instanceof Error) throw this.text;
      return this.text;
    },
    failed: (domain: string, kept: StsPolicy, { result }: StsFailure) =>
      void this.failures.push([domain, kept.mode, result]),
  };

  /** A delivery thread that has just started. */
  thread(store = this.store()): MtaSts {
    return new MtaSts({ ...this.#shared, store, maxDomains: 10 });
  }

  refresh(intervalMs = 200_000): StsRefresh {
    const rules = { enabled: true, fetch_timeout_ms: 1, max_domains: 1, refresh_interval_ms: intervalMs };
    const refresh = new StsRefresh({
      ...this.#shared,
      store: this.store(),
      rules: () => rules,
      random: () => 1,
      aside: new Aside(silentLog),
    });
    refreshes.push(refresh);
    return refresh;
  }

  files(): string[] {
    try {
      return readdirSync(this.dir).sort();
    } catch {
      return [];
    }
  }

  /** The policy is written behind the mail's back. */
  written(...files: string[]): Promise<void> {
    return eventually(() => assert.deepEqual(this.files(), files));
  }
}

const refreshes: StsRefresh[] = [];
after(() => {
  for (const one of refreshes) one.stop();
});

const modeOf = async (sts: MtaSts, domain = 'one.test') => (await sts.policy(domain))?.mode;

test('a restart forgets no policy, whoever hides its record or its host meanwhile', async () => {
  const host = new Host();
  assert.equal(await modeOf(host.thread()), 'enforce');
  await host.written('one.test.json');
  host.record = { kind: 'no-name' };
  host.text = new Error('unreachable');
  assert.equal(await modeOf(host.thread()), 'enforce', 'the record is gone');
  host.record = { kind: 'temporary', detail: 'SERVFAIL' };
  assert.equal(await modeOf(host.thread()), 'enforce', 'DNS does not answer');
  host.record = found('2');
  assert.equal(await modeOf(host.thread()), 'enforce', 'a new policy that cannot be had');
  assert.deepEqual(host.failures, [['one.test', 'enforce', 'sts-policy-fetch-error']]);
  host.record = found('1');
  const before = host.fetched.length;
  assert.equal(await modeOf(host.thread()), 'enforce');
  assert.equal(host.fetched.length, before, 'what is on disk is not fetched again');
  host.nowMs += 1_000_001;
  assert.equal(await modeOf(host.thread()), 'failed', 'its time is over');
  assert.deepEqual(host.warned, []);
});

test('a new policy takes the place of the old, for threads that run and threads to come', async () => {
  const host = new Host();
  const [one, two] = [host.thread(), host.thread()];
  assert.deepEqual([await modeOf(one), await modeOf(two)], ['enforce', 'enforce']);
  await host.written('one.test.json');
  host.nowMs += 100_000;
  host.record = found('2');
  host.text = policyText('testing');
  assert.equal(await modeOf(one), 'testing');
  await eventually(() => assert.match(readFileSync(join(host.dir, 'one.test.json'), 'utf8'), /testing/));
  host.record = { kind: 'no-name' };
  host.nowMs += 100_000;
  assert.equal(await modeOf(two), 'testing', 'what another thread fetched');
  assert.equal(await modeOf(host.thread()), 'testing');
});

test('a damaged file is told of, and its policy fetched again', async () => {
  for (const bytes of [
    '',
    '{"domain"',
    'null',
    '{"domain":"two.test","id":"1","fetched_at":"x","policy":""}',
    'x'.repeat(500_000),
  ]) {
    // biome-ignore format: one line
    const host = new Host();
    assert.equal(await modeOf(host.thread()), 'enforce');
    await host.written('one.test.json');
    writeFileSync(join(host.dir, 'one.test.json'), bytes);
    host.record = found('2');
    assert.equal(await modeOf(host.thread()), 'enforce');
    assert.equal(host.fetched.length, 2);
    assert.deepEqual(host.warned, ['mta_sts.damaged']);
    await eventually(() => assert.match(readFileSync(join(host.dir, 'one.test.json'), 'utf8'), /"id": "2"/));
  }
});

test('the file of another domain is not one’s own', async () => {
  const host = new Host();
  assert.equal(await modeOf(host.thread()), 'enforce');
  await host.written('one.test.json');
  writeFileSync(join(host.dir, 'two.test.json'), readFileSync(join(host.dir, 'one.test.json')));
  host.record = { kind: 'no-name' };
  assert.equal(await modeOf(host.thread(), 'two.test'), undefined);
  assert.deepEqual(host.warned, ['mta_sts.damaged']);
});

test('many write at once: who reads has a whole policy, and nothing half written stays', async () => {
  const host = new Host();
  const stores = Array.from({ length: 8 }, () => host.store());
  const text = policyText() + 'mx: other.one.test\n'.repeat(2000);
  const stored = (round: number) => ({
    domain: 'one.test',
    id: `${round}`,
    policy: { mode: 'enforce' as const, mx: [], maxAgeMs: 1e6 },
    text,
    fetchedAtMs: host.nowMs,
    untilMs: host.nowMs + 1e6,
  });
  await stores[0]?.write(stored(0));
  let writing = true;
  const read = (async () => {
    for (let reads = 0; writing || reads === 0; reads++)
      assert.equal((await host.store().read('one.test'))?.policy.mx.length, 2001);
  })();
  for (let round = 0; round < 10; round++)
    await Promise.all(stores.map((store) => store.write(stored(round))));
  writing = false;
  await read;
  assert.deepEqual(host.files(), ['one.test.json']);
  assert.deepEqual(host.warned, []);
});

test('max_domains bounds the files; those there are kept up to date', async () => {
  const host = new Host();
  const sts = host.thread(host.store(2));
  for (const domain of ['one.test', 'two.test']) assert.equal(await modeOf(sts, domain), 'enforce');
  await host.written('one.test.json', 'two.test.json');
  assert.equal(await modeOf(sts, 'three.test'), 'enforce', 'in memory');
  await eventually(() => assert.deepEqual(host.warned, ['mta_sts.not_kept']));
  host.record = found('2');
  host.text = policyText('testing');
  assert.equal(await modeOf(sts, 'two.test'), 'testing');
  await eventually(() => assert.match(readFileSync(join(host.dir, 'two.test.json'), 'utf8'), /testing/));
  await host.written('one.test.json', 'two.test.json');
});

test('names that are no file names have a file as well', async () => {
  const host = new Host();
  const long = `${'a'.repeat(60)}.`.repeat(4).concat('test');
  for (const domain of ['../../etc/x', long]) assert.equal(await modeOf(host.thread(), domain), 'enforce');
  // A file that is being written has another name.
  await eventually(() => {
    assert.equal(host.files().length, 2);
    assert.ok(host.files().every((name) => /^[0-9a-f]{64}\.json$/.test(name)));
  });
  host.record = { kind: 'no-name' };
  assert.equal(await modeOf(host.thread(), long), 'enforce');
});

test('a folder that cannot be written keeps no mail from its policy', async () => {
  const host = new Host();
  writeFileSync(host.dir, 'in the way');
  const sts = host.thread();
  assert.equal(await modeOf(sts), 'enforce');
  await eventually(() => assert.ok(host.warned.includes('mta_sts.not_written')));
  host.record = { kind: 'no-name' };
  assert.equal(await modeOf(sts), 'enforce', 'in memory');
});

test('policies are fetched again before they end; what cannot be fetched stays until then', async () => {
  const host = new Host();
  const start = host.nowMs;
  const refresh = host.refresh(200_000);
  await modeOf(host.thread());
  await host.written('one.test.json');
  const round = async (atMs: number): Promise<number> => {
    const before = host.fetched.length;
    host.nowMs = start + atMs;
    await refresh.round();
    return host.fetched.length - before;
  };
  assert.equal(await round(100_000), 0, 'not due');
  assert.equal(await round(200_000), 1);
  assert.equal(await round(300_000), 0, 'it was fetched 100 s ago');
  host.text = new Error('unreachable');
  assert.equal(await round(400_000), 1);
  assert.equal(await round(500_000), 0, 'a failed fetch is not repeated sooner than in five minutes');
  host.record = { kind: 'no-name' };
  assert.equal(await round(701_000), 1, 'the record may be gone');
  assert.deepEqual(host.failures, Array(2).fill(['one.test', 'enforce', 'sts-policy-fetch-error']));
  assert.equal(await modeOf(host.thread()), 'enforce', 'kept: it was fetched at 200 s, for 1000 s');
  host.record = found('7');
  host.text = policyText('testing', 10_000);
  assert.equal(await round(1_100_000), 1);
  assert.equal(await modeOf(host.thread()), 'testing');
  assert.match(readFileSync(join(host.dir, 'one.test.json'), 'utf8'), /"id": "7"/);
  host.text = new Error('unreachable');
  host.record = { kind: 'no-name' };
  assert.equal(await round(12_000_000), 0, 'over: the file goes');
  assert.deepEqual(host.files(), []);
});

test('a short policy is fetched again at half its time; what a dead process left half written goes', async () => {
  const host = new Host();
  host.text = policyText('enforce', 100);
  await modeOf(host.thread());
  await host.written('one.test.json');
  const left = join(host.dir, 'two.test.json.1-0.new');
  const writing = join(host.dir, 'two.test.json.2-0.new');
  for (const file of [left, writing]) writeFileSync(file, '{');
  utimesSync(left, 0, (host.nowMs - 700_000) / 1000);
  utimesSync(writing, 0, host.nowMs / 1000);
  host.nowMs += 50_000;
  await host.refresh(86_400_000).round();
  assert.equal(host.fetched.length, 2);
  assert.deepEqual(host.files(), ['one.test.json', 'two.test.json.2-0.new']);
});

test('rounds come by themselves, and end with stop', async () => {
  const host = new Host();
  await modeOf(host.thread());
  await host.written('one.test.json');
  host.nowMs += 500_001;
  const refresh = host.refresh(1000);
  await eventually(() => assert.equal(host.fetched.length, 2));
  refresh.stop();
});
