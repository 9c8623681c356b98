/** `protorelay replies classify`: lines in, verdicts out, whatever stands in the lines and however many there are. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { MAX_LINE } from '../../src/cli/input-lines.ts';
import { classifyLines } from '../../src/cli/replies.ts';
import { ReplyClassifier } from '../../src/feedback/classifier.ts';
import { loadReplyRules } from '../../src/feedback/rules-file.ts';
import { SHIPPED_RULES } from '../../src/feedback/rules-text.ts';
import { run } from '../support/child.ts';
import { MAIN } from '../support/relay-fixture.ts';

const classifier = new ReplyClassifier(loadReplyRules([SHIPPED_RULES]));

class Kept extends Writable {
  text = '';
  mostWaiting = 0;
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.mostWaiting = Math.max(this.mostWaiting, this.writableLength);
    this.text = (this.text + chunk.toString()).slice(-1_000_000);
    setImmediate(done);
  }
}

async function classify(chunks: Iterable<string | Buffer>, asTable = false) {
  const [out, err] = [new Kept(), new Kept()];
  async function* input(): AsyncGenerator<string | Buffer> {
    yield* chunks;
  }
  const code = await classifyLines(classifier, input(), out, err, asTable);
  await Promise.all([out, err].map((stream) => new Promise<void>((done) => stream.end(done))));
  return { code, out, err: err.text, lines: out.text.trim().split('\n') };
}

test('each line comes back with class, scope, move and what else stood in it', async () => {
  const line = {
    id: 7,
    provider: 'qq',
    mx_host: 'mx3.qq.com',
    command: 'mail',
    reply: '550 Ip frequency limited',
  };
  const { code, lines } = await classify([`${JSON.stringify(line)}\n`]);
  assert.equal(code, 0);
  const verdict = { class: 'rate_limit', scope: 'source', move: 'retry_later', treat_as: 'deferred' };
  const { rule, ...rest } = JSON.parse(lines[0] as string) as Record<string, unknown>;
  assert.deepEqual(rest, { ...line, ...verdict });
  assert.equal(rule, 'qq.rate-limit-2');
});

test('the provider is found by the host where none that is known is named', async () => {
  const given = [
    { mx_host: 'aspmx.l.google.com', reply: '421-4.7.28 too much\r\n421 4.7.28 of it' },
    { provider: 'nobody', mx_host: 'aspmx.l.google.com', reply: '421 4.7.0 this domain wants TLS' },
    { reply: '250-' },
  ];
  const { code, lines, err } = await classify(given.map((one) => `${JSON.stringify(one)}\n`));
  assert.equal(code, 65);
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)).map(({ provider, rule }) => [provider, rule]),
    [
      ['google', 'google.rate-limit-6'],
      ['nobody', 'google.tls-required-2'],
    ],
  );
  assert.match(err, /^protorelay: line 3: "reply" is no refusal/);
});

test('lines that are wrong are named by number, and the others are classified', async () => {
  const good = '{"reply":"550 5.1.1 no such user"}';
  const wrong = [
    'not json',
    '[1]',
    '{}',
    '{"reply":5}',
    '{"reply":""}',
    '{"reply":"hello"}',
    '{"reply":"550 a","provider":1}',
  ];
  const text = [good, ...wrong, '', 'x'.repeat(MAX_LINE + 1), good].join('\n');
  const octets = Buffer.from(text);
  const halves = [octets.subarray(0, 20), octets.subarray(20)];
  for (const chunks of [[octets], halves]) {
    const { code, lines, err } = await classify(chunks);
    assert.equal(code, 65);
    assert.equal(lines.length, 2);
    assert.deepEqual(
      err
        .trim()
        .split('\n')
        .map((line) => Number(/^protorelay: line (\d+): \S/.exec(line)?.[1])),
      [2, 3, 4, 5, 6, 7, 8, 10],
    );
  }
});

test('nothing in a reply steers the terminal, in neither form', async () => {
  const line = JSON.stringify({ reply: '550 \u001b[2J\u009b5m\u202e no such user' });
  for (const asTable of [false, true]) {
    const { out } = await classify([`${line}\n`], asTable);
    assert.doesNotMatch(out.text.replaceAll('\n', ''), /\p{Cc}|\u202e/u);
    assert.match(out.text, /invalid_recipient/);
  }
});

test('input of any length is read no faster than its output is taken', async () => {
  const line = `${JSON.stringify({ reply: `550 5.1.1 ${'no such user '.repeat(20)}` })}\n`;
  function* many(): Generator<string> {
    for (let i = 0; i < 200; i++) yield line.repeat(100);
  }
  const { code, out } = await classify(many());
  assert.equal(code, 0);
  assert.ok(out.mostWaiting < 200_000, `${out.mostWaiting} octets waited`);
});

test('the command needs neither relay nor config; wrong rules of one’s own end it with 78', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'replies-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const rules = join(dir, 'own.json');
  const rule = {
    id: 'own',
    pattern: 'no such user',
    class: 'greylist',
    scope: 'message',
    move: 'bounce',
    source: 'test',
  };
  writeFileSync(rules, JSON.stringify({ rules: [rule] }));
  const args = [MAIN, '-c', join(dir, 'none.json'), 'replies', 'classify', '--rules', rules];
  const input = '{"reply":"550 no such user"}\n';
  const good = await run(process.execPath, args, { input });
  assert.equal(good.code, 0, good.stderr);
  assert.equal((JSON.parse(good.stdout) as { rule: string }).rule, 'own');
  writeFileSync(rules, JSON.stringify({ rules: [{ ...rule, pattern: '(a)\\1' }] }));
  const bad = await run(process.execPath, args, { input });
  assert.equal(bad.code, 78);
  assert.match(bad.stderr, /own\.json:1: rules\[0\]\.pattern: not a pattern that takes linear time/);
});
