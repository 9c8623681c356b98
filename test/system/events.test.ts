/** Events of a real relay: as the docs have them, and as `protorelay events` and the log show them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTransport } from 'nodemailer';
import { Authority, lacksOpenssl } from '../support/authority.ts';
import { run } from '../support/child.ts';
import { documentedFields, undocumented } from '../support/documented-events.ts';
import { fate } from '../support/fates.ts';
import { MAIN, RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink } from '../support/scripted-sink.ts';

const HOUR_MS = 3_600_000;

test('every field of every event is documented, and stands in the lines of a relay', {
  timeout: 60_000,
  skip: lacksOpenssl,
}, async (t) => {
  const authority = new Authority();
  t.after(() => authority.remove());
  const { cert, key, certFile, keyFile } = authority.issue(['localhost']);
  const sink = await ScriptedSink.start({ tls: { cert, key } });
  t.after(() => sink.stop());
  const relay = new RelayFixture();
  t.after(() => relay.destroy());
  copyFileSync(certFile, join(relay.dir, 'server.crt'));
  copyFileSync(keyFile, join(relay.dir, 'server.key'));
  relay.configure({
    listeners: [{ name: 'submission', host: '127.0.0.1', port: 0, tls: 'optional', auth: 'required' }],
    tls: { cert_file: '../server.crt', key_file: '../server.key' },
    auth: { backends: [{ type: 'memory', users: [{ username: 'ann', password: 'p' }] }] },
    delivery: { smarthost: { host: '127.0.0.1', port: sink.port } },
    retry: { initial_delay_ms: HOUR_MS, max_delay_ms: HOUR_MS, max_attempts: 2 },
    log: { mail: true },
  });
  await relay.start();
  const transport = createTransport({
    host: '127.0.0.1',
    port: relay.port,
    requireTLS: true,
    tls: { rejectUnauthorized: false },
    auth: { user: 'ann', pass: 'p' },
  });
  const send = (to: string) =>
    transport.sendMail({
      envelope: { from: 'a@a.test', to: [to], dsn: { id: 'QQ+1', notify: 'failure' } } as never,
      messageId: `<${to}>`,
      headers: {
        'X-ProtoRelay-Tenant': 'shop',
        'X-ProtoRelay-Campaign': 'spring',
        'X-ProtoRelay-Class': 'bulk',
        'X-ProtoRelay-Pool': 'p',
        'X-ProtoRelay-Priority-Hint': '50',
        'X-ProtoRelay-Metadata': '{"n":1}',
        'X-ProtoRelay-Deadline': new Date(Date.now() + HOUR_MS).toISOString(),
      },
      text: 'x',
    });
  const addresses = ['taken', 'bounce-550', 'defer-451+expires', 'defer-451+removed'].map(
    (local) => `${local}@b.test`,
  );
  for (const to of addresses) await send(to);
  const [taken = '', bounced = '', expires = '', removed = ''] = addresses;
  const first = await fate(relay.events, taken, 'delivered');
  await fate(relay.events, bounced, 'bounced');
  for (const to of [expires, removed])
    await relay.events.one(
      `${to} deferred`,
      ({ type, recipient }) => type === 'deferred' && recipient === to,
    );
  await relay.queue('flush', '--recipient', expires);
  await fate(relay.events, expires, 'expired');
  await relay.queue('delete', '--recipient', removed, '--yes');
  await fate(relay.events, removed, 'removed');
  await relay.events.one('a report', ({ original_queue_id: id }) => id !== undefined);

  assert.deepEqual(undocumented(relay.events.events), []);
  const shown = new Map<string, Set<string>>();
  for (const event of relay.events.events) {
    const fields = shown.get(String(event.type)) ?? new Set();
    for (const name of Object.keys(event)) fields.add(name);
    shown.set(String(event.type), fields);
  }
  // What a poison message is held for is seen in poison.test.ts, what a full disk drops in report/events.test.ts, who is
  // suppressed in suppression.test.ts, what rules discard and hold in routing.test.ts, which limits change in learned-limits.test.ts, which rule knew a reply in replies.test.ts,
  // what comes back in bounces.test.ts.
  const missing = [...documentedFields()]
    .filter(
      ([type]) =>
        ![
          'held',
          'dropped',
          'suppressed',
          'discarded',
          'limit_changed',
          'source_state',
          'async_bounced',
          'complained',
        ].includes(type),
    )
    .flatMap(([type, names]) =>
      [...names]
        .filter((name) => name !== 'rule' && !shown.get(type)?.has(name))
        .map((name) => `${type}.${name}`),
    );
  assert.deepEqual(missing, []);
  const { message_id, user, envid, status, peer_port, source_address, node } = first;
  assert.deepEqual(
    [message_id, user, envid, status, peer_port, source_address, node],
    [taken, 'ann', 'QQ+1', '2.0.0', sink.port, '127.0.0.1', 'node'],
  );

  const events = (...args: string[]) =>
    run(process.execPath, [MAIN, 'events', '-c', relay.configPath, ...args]);
  const { stdout: text } = await events('--text', '--recipient', taken);
  assert.match(
    text,
    /: to=<taken@b\.test>, from=<a@a\.test>, relay=\[127\.0\.0\.1\]:\d+, delay=[\d.]+, delays=[\d./]+, dsn=2\.0\.0, tenant=shop, campaign=spring, status=delivered \(250 /,
  );
  const logged = relay.log.find(
    ({ event, line }) => event === 'mail.delivered' && String(line).includes(taken),
  );
  assert.equal(`${logged?.line}\n`, text);
  const { stdout: ofMessage } = await events('--id', String(first.queue_id));
  assert.deepEqual(
    ofMessage
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).type),
    ['accepted', 'delivered'],
  );
  assert.equal((await events('--since', 'yesterday')).code, 64);

  // A reader that goes away, and an operator who has seen enough, end it.
  for (const end of ['close', 'SIGINT'] as const) {
    const child = spawn(process.execPath, [
      MAIN,
      'events',
      '-c',
      relay.configPath,
      '--follow',
      '--last',
      '1',
    ]);
    await once(child.stdout, 'data');
    if (end === 'SIGINT') child.kill(end);
    else {
      child.stdout.destroy();
      await send('taken+again@b.test');
    }
    const [code] = await once(child, 'exit');
    assert.equal(code, 0, end);
  }
  transport.close();
  await relay.stop();
  assert.equal(
    (await events('--type', 'expired')).stdout.trim().split('\n').length,
    1,
    'of a stopped relay too',
  );
});
