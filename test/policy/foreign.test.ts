/** PROXY and XCLIENT as programs that nobody here wrote speak them: swaks, haproxy. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../support/child.ts';
import { freePort } from '../support/free-port.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';

let relay: RelayFixture;

before(async () => {
  relay = await RelayFixture.start({
    delivery: { enabled: false },
    relay_networks: ['198.51.100.0/24'],
    policy: {
      proxy_protocol: { networks: ['127.0.0.1'] },
      xclient_networks: ['198.51.100.1', '127.0.0.2'],
      connections: { enabled: true, max_per_ip: 1, exempt: ['198.51.100.1'] },
    },
  });
});
after(() => relay?.destroy());

const options = (program: string) => ({ timeout: 60_000, skip: skipWithout(program) });

/** The Received field of the newest message. */
async function received(output: string): Promise<string> {
  const queueId = /queued as (\w+)/.exec(output)?.[1] ?? assert.fail(output);
  return (await relay.queue('cat', queueId)).stdout.split('\r\n')[0] ?? '';
}

const common = (): string[] => [
  '--server',
  `127.0.0.1:${relay.port}`,
  '--from',
  'a@b.net',
  '--to',
  'c@far.net',
  '--ehlo',
  'x.net',
];

for (const version of ['1', '2'])
  test(`swaks: PROXY version ${version}`, options('swaks'), async () => {
    const proxy = ['--proxy-version', version, '--proxy-family', 'TCP4', '--proxy-source', '198.51.100.7'];
    const more = ['--proxy-source-port', '4000', '--proxy-dest', '192.0.2.1', '--proxy-dest-port', '25'];
    const v2 =
      version === '2'
        ? ['--proxy-protocol', 'STREAM', '--proxy-command', 'PROXY', '--proxy-family', 'AF_INET']
        : [];
    const ran = await run('swaks', [...common(), ...proxy, ...more, ...v2]);
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.match(await received(ran.stdout), /\(\[198\.51\.100\.7\]\)/);
  });

test('swaks: XCLIENT', options('swaks'), async () => {
  const told = [
    '--xclient-addr',
    '198.51.100.9',
    '--xclient-name',
    'mail.far.net',
    '--xclient-helo',
    'helo.far.net',
  ];
  const ran = await run('swaks', [...common(), '--local-interface', '127.0.0.2', ...told]);
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.match(await received(ran.stdout), /\(\[198\.51\.100\.9\]\)/);
});

for (const [name, keyword] of [
  ['1', 'send-proxy'],
  ['2', 'send-proxy-v2'],
] as const)
  test(
    `haproxy: PROXY version ${name}; limits hold for the client behind it`,
    options('haproxy'),
    async (t) => {
      const dir = mkdtempSync(join(tmpdir(), 'protorelay-haproxy-'));
      const port = await freePort();
      const file = join(dir, 'haproxy.cfg');
      writeFileSync(
        file,
        `defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen smtp
  bind 127.0.0.1:${port}
  server relay 127.0.0.1:${relay.port} ${keyword}
`,
      );
      const haproxy = spawn(programPath('haproxy') as string, ['-db', '-f', file], { stdio: 'ignore' });
      t.after(() => {
        haproxy.kill('SIGKILL');
        rmSync(dir, { recursive: true, force: true });
      });
      const where = { host: '127.0.0.1', port, localAddress: '127.0.0.42' };
      let talk = await Talk.open(where);
      // Until haproxy listens there is nobody to talk to.
      for (let i = 0; i < 100 && talk.greeting === ''; i++) {
        await new Promise((done) => setTimeout(done, 50));
        talk = await Talk.open(where);
      }
      assert.match(talk.greeting, /^220 /);
      const second = await Talk.open(where);
      assert.match(second.greeting, /^421 4\.7\.0 .*from your address/);
      await talk.quit();
    },
  );
