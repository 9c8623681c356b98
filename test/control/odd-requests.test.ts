/** A real relay that is asked odd things: every request gets an answer, or loses its connection, and the relay lives. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MAX_REQUEST_BYTES, requestSchema } from '../../src/control/protocol.ts';
import { bounded, RelayFixture } from '../support/relay-fixture.ts';

let relay: RelayFixture;
before(async () => {
  relay = await RelayFixture.start({ delivery: { enabled: false } });
});
after(() => relay.destroy());

const SELECTION = {
  ids: ['0000000000000000'],
  states: ['DEAD'],
  destinations: ['a.test'],
  domains: ['*.a.test'],
  recipients: ['b@b.test'],
  senders: ['a*@a.test'],
  users: ['u'],
  listeners: ['l'],
  reasons: ['timeout'],
  messageIds: ['<1@a.test>'],
  headers: [{ name: 'X-Campaign', value: 'spring*' }],
  receivedBeforeMs: 1,
  receivedAfterMs: 0,
  minAttempts: 1,
  maxAttempts: 2,
  minBytes: 1,
  maxBytes: 2,
};

/** Each method with parameters it takes; reload and delete are harmless on an empty relay. */
const REQUESTS: Record<string, Record<string, unknown>> = {
  list: { limit: 5, selection: SELECTION, afterQueueId: 'x' },
  show: { queueId: '0000000000000000' },
  content: { queueId: '0000000000000000', offset: 0, maxBytes: 10 },
  stats: {},
  reload: {},
  sites: {},
  sources: {},
  unknown_replies: {},
  shards: {},
  count: { selection: SELECTION, by: 'domain' },
  status: {},
  standing: { destinations: ['a.test'] },
  explain: {
    entries: [
      {
        queueId: '',
        destination: 'a.test',
        sender: 'a@x.test',
        tenant: 't',
        campaign: 'c',
        class: 'bulk',
        pool: 'p',
        site: { key: 'google', provider: 'google' },
      },
    ],
  },
  operate: { action: 'flush', selection: { ids: ['0000000000000000'] }, after: '' },
  suspend: {
    destinations: ['a.test'],
    domains: [],
    senders: [],
    users: [],
    reason: 'r',
    createdBy: 'c',
    durationMs: 60_000,
    untilMs: null,
  },
  suspensions: {},
  resume: { order: 'all' },
  bans: {},
  ban: { network: '192.0.2.1', durationMs: 60_000 },
  unban: { network: '192.0.2.1' },
};

const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;
/** Each in the place of every field, as JSON text. */
const ODD = [
  'null',
  'true',
  '-1',
  '0.5',
  '1e308',
  '-1e999',
  '9007199254740993',
  `${'9'.repeat(400)}`,
  '""',
  '"\\u0000\\ud800"',
  '"%_\'\\"; DROP TABLE mails"',
  '"xn--\\u00e9..test"',
  `"${'x'.repeat(60_000)}"`,
  '9007199254740991',
  '[]',
  '{}',
  '"{}"',
  '"{\\"0\\":5,\\"__proto__\\":[]}"',
  '"{x}"',
  '{"__proto__":{"a":1}}',
  '{"constructor":{"prototype":1},"toString":2}',
  nested(30_000),
  `{"ids":${nested(1000)}}`,
  '{"destinations":["\\u0000"]}',
  `["${'*a'.repeat(450)}"]`,
  '[{"name":"\\u0000","value":"\\\\"}]',
];

function* linesOf(method: string, params: Record<string, unknown>): Generator<string> {
  yield JSON.stringify({ id: 1, method, params });
  const fields = [...Object.keys(params), '__proto__', 'more'];
  for (const odd of ODD) {
    yield `{"id":${odd},"method":"${method}","params":${JSON.stringify(params)}}`;
    yield `{"id":1,"method":"${method}","params":${odd}}`;
    for (const field of fields) {
      const rest = JSON.stringify({ ...params, [field]: undefined }).slice(1);
      yield `{"id":1,"method":"${method}","params":{"${field}":${odd}${rest === '}' ? '' : ','}${rest}}`;
    }
    if (method === 'list')
      for (const field of Object.keys(SELECTION))
        yield `{"id":1,"method":"list","params":{"limit":5,"selection":{"${field}":${odd}}}}`;
  }
}

/** Answers to all lines over one connection; it is opened anew where the relay closed it. */
async function ask(lines: string[]): Promise<string[]> {
  const answers: string[] = [];
  const socket = connect(join(relay.dataDir, 'control.sock'));
  socket.on('error', () => {});
  const done = new Promise<void>((resolve) => {
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      const whole = text.split('\n');
      text = whole.pop() as string;
      answers.push(...whole);
      if (answers.length === lines.length) resolve();
    });
    socket.on('close', () => resolve());
  });
  socket.write(`${lines.join('\n')}\n`);
  await bounded(done, 30_000, () => `${answers.length} of ${lines.length} answers\n${relay.output()}`);
  socket.destroy();
  return answers;
}

for (const [method, params] of Object.entries(REQUESTS))
  test(`${method}: odd values in every field are answered, and the relay lives`, {
    timeout: 60_000,
  }, async () => {
    const { pid } = relay;
    const lines = [...linesOf(method, params)].filter((line) => line.length <= MAX_REQUEST_BYTES);
    const answers = await ask(lines);
    assert.equal(answers.length, lines.length);
    const parsed = answers.map(
      (answer) => JSON.parse(answer) as { result?: unknown; error?: { code: string; message: string } },
    );
    assert.ok('result' in (parsed[0] as object), answers[0]);
    const internal = parsed.flatMap(({ error }, i) =>
      error?.code === 'internal' ? [`${lines[i]?.slice(0, 200)} → ${JSON.stringify(error)}`] : [],
    );
    assert.deepEqual(internal, []);
    const long = parsed
      .map(({ error }) => error?.message ?? '')
      .find((said) => /\n/.test(said) || said.length > 400);
    assert.equal(long, undefined, 'faults are said in a line');
    assert.equal(relay.pid, pid);
  });

test('there is a row for every method', () => {
  const methods = requestSchema.options.map(({ shape }) => shape.method.value);
  assert.deepEqual(Object.keys(REQUESTS).sort(), methods.toSorted());
});

test('what is no request at all is answered, and the relay lives', { timeout: 60_000 }, async () => {
  const lines = [
    '',
    'x',
    '{',
    '[]',
    'null',
    '1',
    '"a"',
    nested(32_000),
    '{"method":"__proto__","id":1,"params":{}}',
    '\u0000',
    '{"id":1}',
  ];
  const answers = await ask(lines);
  assert.ok(answers.every((answer) => /"bad_request"/.test(answer)));
  assert.equal(answers.length, lines.length);
  assert.equal((await relay.queue('list')).code, 0);
  const { scheduler } = await relay.queueJson<{ scheduler: { faults: object } }>('stats');
  assert.deepEqual(scheduler.faults, { sessions: 0, deliveries: 0, others: 0 });
});
