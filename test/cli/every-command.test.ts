/**
 * Operator commands go by `data_dir` and the control socket, and on a stopped relay by what says where its queue and its
 * users are: faults elsewhere in the config, and secrets that this environment lacks, are no concern of theirs.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/child.ts';
import { MAIN, RelayFixture } from '../support/relay-fixture.ts';

const RUNNER = join(import.meta.dirname, '../support/every-command.ts');

interface Expected {
  words: string[];
  runs: number | number[];
  stopped: number | number[];
}

/** Each command with arguments, and what it ends with while the relay runs and when it is stopped. */
const COMMANDS: Record<string, Expected> = {
  'queue list': { words: [], runs: 0, stopped: 0 },
  'queue show': { words: ['none'], runs: 65, stopped: 65 },
  'queue cat': { words: ['none'], runs: 65, stopped: 65 },
  'queue stats': { words: [], runs: 0, stopped: 0 },
  'queue flush': { words: ['--all'], runs: 0, stopped: 69 },
  'queue hold': { words: ['--all'], runs: 0, stopped: 69 },
  'queue release': { words: ['--all'], runs: 0, stopped: 69 },
  'queue delete': { words: ['--all'], runs: 0, stopped: 69 },
  'queue fail': { words: ['--all'], runs: 0, stopped: 69 },
  'queue reroute': { words: ['--all', '--default'], runs: 0, stopped: 69 },
  'queue count': { words: [], runs: 0, stopped: 0 },
  'queue why': { words: ['none'], runs: 65, stopped: 65 },
  events: { words: ['--limit', '1'], runs: 0, stopped: 0 },
  suspend: { words: ['--destination', 'a.test'], runs: 0, stopped: 0 },
  resume: { words: ['--destination', 'a.test'], runs: 0, stopped: 0 },
  suspensions: { words: [], runs: 0, stopped: 0 },
  'suppression add': { words: ['a@a.test'], runs: 0, stopped: 0 },
  'suppression list': { words: [], runs: 0, stopped: 0 },
  'suppression check': { words: ['a@a.test'], runs: 0, stopped: 0 },
  'suppression import': { words: ['/dev/null'], runs: 0, stopped: 0 },
  'suppression export': { words: [], runs: 0, stopped: 0 },
  'suppression remove': { words: ['a@a.test'], runs: 0, stopped: 0 },
  'ban list': { words: [], runs: 0, stopped: 0 },
  'ban add': { words: ['192.0.2.1', '--json'], runs: 0, stopped: 0 },
  'ban delete': { words: ['192.0.2.1', '--json'], runs: 0, stopped: 0 },
  'user list': { words: [], runs: 0, stopped: 0 },
  'token create': { words: ['--role', 'viewer', '--name', 'n'], runs: 0, stopped: 0 },
  'token list': { words: [], runs: 0, stopped: 0 },
  'token revoke': { words: ['12345678'], runs: 65, stopped: 65 },
  'user delete': { words: ['u'], runs: 0, stopped: 65 },
  'db migrate': { words: [], runs: 0, stopped: 0 },
  'db compact': { words: [], runs: 75, stopped: 0 },
  'db shards': { words: [], runs: 78, stopped: 78 },
  // 75: a machine that is busy may impair it.
  status: { words: [], runs: [0, 75], stopped: 69 },
  'config reference': { words: [], runs: 0, stopped: 0 },
  'shaping check': { words: [], runs: 0, stopped: 0 },
  'replies unknown': { words: [], runs: 0, stopped: 69 },
  'source list': { words: [], runs: 0, stopped: 69 },
  // Its DNS servers need not answer.
  route: { words: ['a@a.test', '--class', 'bulk'], runs: [0, 75], stopped: [0, 75] },
  'shaping show': { words: [], runs: 0, stopped: 0 },
  'shaping replay': { words: [], runs: 0, stopped: 0 },
  'shaping suggest': { words: [], runs: 0, stopped: 0 },
  'warmup status': { words: [], runs: 0, stopped: 0 },
  'warmup set': { words: ['default', 'google', '1'], runs: 65, stopped: 65 },
  'warmup pause': { words: ['default'], runs: 65, stopped: 65 },
  lint: { words: ['./package.json', '--offline'], runs: 2, stopped: 2 },
  'dkim generate': {
    words: ['--domain', 'x.test', '--selector', 's', '--out', 'OUT'],
    runs: 73,
    stopped: 73,
  },
  'dkim dns': { words: [], runs: 0, stopped: 0 },
  'dkim check': { words: [], runs: 0, stopped: 0 },
  'tls self-signed': { words: ['x.test', '--out', 'OUT', '--force'], runs: 0, stopped: 0 },
};
/** What is wrong with the config is what these are about. */
const ABOUT_CONFIG: Record<string, Expected> = {
  'config check': { words: [], runs: 78, stopped: 78 },
  reload: { words: [], runs: 78, stopped: 69 },
};
/** These read standard input: they are run by themselves. And one that is no command any more. */
const OTHERS = ['user add', 'user passwd', 'replies classify', 'queue retry'];

/** Programs read what these print. */
const DELIVERABILITY = /^(?:source|route|shaping|warmup|dkim|lint|suppression|replies|queue why)\b/;

const FAULTS = /nonsense|EVERY_COMMAND_SECRET|must be a whole number/;

test('every command does its work whatever else is wrong with the config, on a relay that runs and on one that stopped', {
  timeout: 90_000,
}, async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'every-command-'));
  t.after(() => rmSync(out, { recursive: true, force: true }));
  const auth = { backends: [{ type: 'file', path: 'users.txt' }] };
  const relay = await RelayFixture.start({ auth, delivery: { enabled: false } });
  t.after(() => relay.destroy());
  const faulty = {
    ...relay.settings,
    nonsense: 1,
    smtp: { max_hops: 0 },
    retry: { initial_delay_ms: 20, max_delay_ms: 10 },
    delivery: {
      enabled: false,
      smarthost: { host: 'x.test', auth: { username: 'u', password: '${EVERY_COMMAND_SECRET}' } },
    },
  };
  writeFileSync(relay.configPath, JSON.stringify(faulty, null, 1));
  const all = { ...COMMANDS, ...ABOUT_CONFIG };
  const lines = Object.entries(all).map(([name, { words }]) => [
    ...name.split(' '),
    ...words.map((word) => (word === 'OUT' ? out : word)),
  ]);
  const walk = async (state: 'runs' | 'stopped'): Promise<void> => {
    const ran = await run(process.execPath, [RUNNER, relay.configPath], { input: JSON.stringify(lines) });
    assert.equal(ran.code, 0, ran.stderr);
    const { commands, withJson, outcomes } = JSON.parse(ran.stdout) as {
      commands: string[];
      withJson: string[];
      outcomes: { code: number; said: string }[];
    };
    assert.deepEqual(commands.sort(), [...Object.keys(all), ...OTHERS].sort());
    const textOnly = commands.filter((name) => DELIVERABILITY.test(name) && !withJson.includes(name));
    assert.deepEqual(textOnly, [], 'commands without --json');
    for (const [i, [name, expected]] of Object.entries(all).entries()) {
      const { code, said } = outcomes[i] as { code: number; said: string };
      assert.ok([expected[state]].flat().includes(code), `${name} (${state}) ended with ${code}: ${said}`);
      if (ABOUT_CONFIG[name] === undefined) assert.doesNotMatch(said, FAULTS, name);
    }
  };
  for (const words of [
    ['add', 'u', 'messages_per_day=5'],
    ['passwd', 'u'],
  ]) {
    const args = [MAIN, '-c', relay.configPath, 'user', ...words];
    const { code, stderr } = await run(process.execPath, args, { input: 'secret\n' });
    assert.equal(code, 0, stderr);
  }
  await walk('runs');
  await relay.stop();
  await walk('stopped');
});
