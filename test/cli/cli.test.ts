import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { lockDataDir } from '../../src/base/data-dir.ts';
import { isCertificateName } from '../../src/tls/self-signed.ts';
import { type Ran, run } from '../support/child.ts';

const root = resolve(import.meta.dirname, '../..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

/** Exit codes that commands of this file have ended with; of one that was given up there is none. */
const provoked = new Set<number>();

async function protorelay(...args: string[]): Promise<Ran> {
  const ran = await run(process.execPath, [join(root, 'src/main.ts'), ...args], { cwd: root });
  if (ran.code !== null) provoked.add(ran.code);
  return ran;
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'cli-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function configFile(t: TestContext, text = '{}'): string {
  const path = join(folder(t), 'relay.json');
  writeFileSync(path, text);
  return path;
}

for (const flag of ['--help', '-h']) {
  test(`${flag} shows commands, signals and exit codes and ends with 0`, async () => {
    const { code, stdout, stderr } = await protorelay(flag);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    for (const part of ['queue', 'config', '--config', '--version', 'Signals:', 'Exit codes:']) {
      assert.ok(stdout.includes(part), part);
    }
  });
}

for (const flag of ['--version', '-V']) {
  test(`${flag} shows version, commit, build time, platform, compiler, Node and features`, async () => {
    const { code, stdout } = await protorelay(flag);
    assert.equal(code, 0);
    assert.ok(stdout.startsWith(`protorelay ${version}\n`));
    for (const name of ['commit', 'built', 'compiler'])
      assert.match(stdout, new RegExp(`^${name} +\\S+`, 'm'));
    assert.ok(stdout.includes(`${process.platform}-${process.arch}`));
    assert.ok(stdout.includes(process.versions.node));
    assert.match(
      stdout,
      /^features .*database=sqlite,mysql,mysql_distributed .*ack=after_persist,after_journal,after_enqueue/m,
    );
  });
}

test('a wrong command line ends with 64 and says what is wrong', async () => {
  const cases: [string[], RegExp][] = [
    [['--nonsense'], /^protorelay: unknown option '--nonsense'/],
    [['a.json', 'b.json'], /too many arguments/],
    [['-c', 'a.json', 'b.json'], /give the config file once/],
    [['-c'], /argument missing/],
    [['queue', 'retry', 'id'], /queue retry is called queue flush/],
    [['queue', 'list', '--state', 'odd'], /one of pending, sending, deferred, held, failed, delivered/],
    [['queue', 'list', '--state', 'DEAD'], /DEAD is called failed now/],
    [['queue', 'list', '--limit', '0'], /whole number from 1/],
    [['events', '--type', 'dead*'], /one of accepted, delivered, deferred/],
    [['suspend', '--domain', 'a.test', 'b.test'], /too many arguments/],
    [['queue', 'delete'], /needs message ids, options that say what is meant, or --all/],
    [['queue', 'flush', 'id', '--all'], /needs message ids, options that say what is meant, or --all/],
    [['queue', 'show'], /missing required argument/],
    [['queue', 'nonsense'], /unknown command 'nonsense'/],
    [['quue'], /there is no command quue.*did you mean queue\?/],
    [['que', 'list'], /there is no command que/],
    [['-c', 'a.json', 'quue', 'list'], /there is no command quue.*did you mean queue\?/],
    [['help'], /there is no command help.*protorelay --help/],
    [['queue', 'list', '--destination', ''], /must not be empty/],
    [['queue', 'delete', '--destination', ''], /must not be empty/],
    [['queue', 'delete', '--sender', ''], /must not be empty/],
    [['queue', 'count', '--by', 'size'], /Allowed choices are destination, domain, state/],
    [['queue', 'list', '--older-than', '2'], /number and s, m, h or d/],
    [['queue', 'list', '--min-size', '1T'], /K, M or G/],
    [['queue', 'list', '--header', ': x'], /a field and a value/],
    [['ban', 'add', '192.0.2.1', 'foo'], /'foo' is invalid.*write 192\.0\.2\.1/],
    [['ban', 'add', '10.0.0.0/33'], /no address or network/],
    [['ban', 'delete', 'foo'], /no address or network/],
  ];
  const ran = await Promise.all(cases.map(([args]) => protorelay(...args)));
  for (const [i, { code, stderr }] of ran.entries()) {
    assert.equal(code, 64, cases[i]?.[0].join(' '));
    assert.match(stderr, cases[i]?.[1] as RegExp);
  }
});

test('the help of commands names --config, fits a terminal, and tells no default that goes without saying', async () => {
  const commands = [
    [],
    ['queue'],
    ['queue', 'list'],
    ['queue', 'fail'],
    ['events'],
    ['suspend'],
    ['user', 'add'],
    ['config', 'check'],
    ['reload'],
  ];
  const ran = await Promise.all(commands.map((words) => protorelay(...words, '--help')));
  for (const [i, { stdout }] of ran.entries()) {
    assert.match(stdout, /^ {2}-c, --config <path> /m, commands[i]?.join(' '));
    assert.doesNotMatch(stdout, /.{81}|default: (?:false|"")/);
  }
});

test('a reader that goes away before help, version or a complaint is printed is no fault', async () => {
  for (const [words, code] of [
    ['--help', 0],
    ['queue list --help', 0],
    ['--version', 0],
    ['queue', 64],
    ['queue nonsense', 64],
    ['relay-of-nobody.json', 78],
  ] as const) {
    const main = `'${process.execPath}' '${join(root, 'src/main.ts')}' ${words}`;
    const { stdout, stderr } = await run('bash', ['-c', `${main} 2>&1 | true; echo "\${PIPESTATUS[0]}"`], {
      cwd: root,
    });
    assert.deepEqual([stdout, stderr], [`${code}\n`, ''], words);
  }
});

test('db compact before the first start says that there is nothing to do', async (t) => {
  const { code, stdout } = await protorelay('db', 'compact', '-c', configFile(t, '{ "data_dir": "data" }'));
  assert.deepEqual([code, stdout], [0, 'there is no file of a queue here yet, so nothing to compact\n']);
});

test('a bad config ends with 78 and lists every problem, for the relay and for config check', async (t) => {
  const path = configFile(t, '{\n  "hostnam": "x",\n  "max_message_size": 1\n}');
  for (const args of [['-c', path], [path], ['--config', path], ['config', 'check', path]]) {
    const { code, stdout, stderr } = await protorelay(...args);
    const said = args[0] === 'config' ? stdout : stderr;
    assert.equal(code, 78, args.join(' '));
    assert.ok(said.includes(`${path}:2: hostnam: unknown key (did you mean "hostname"?)`), said);
    assert.ok(said.includes(`${path}:3: max_message_size: must be a whole number from 1024`), said);
  }
});

test('a config file that is not there ends with 78 and is named', async (t) => {
  const path = join(folder(t), 'gone.json');
  const { code, stderr } = await protorelay(path);
  assert.equal(code, 78);
  assert.ok(stderr.includes(`cannot read ${path}`));
});

test('config check of a good file ends with 0 and shows warnings', async (t) => {
  const path = configFile(t, '{ "$schema": "x", "inbound_ack_mode": "after_enqueue" }');
  const { code, stdout } = await protorelay('config', 'check', path);
  assert.equal(code, 0);
  assert.match(stdout, /warning: .*:1: inbound_ack_mode: .* a crash can lose it\n.*relay\.json: good\n/);
});

test('a folder for content that cannot be written is said at the start and by config check, with key and reason', async (t) => {
  const dir = folder(t);
  writeFileSync(join(dir, 'file'), '');
  const local = { path: join(dir, 'file') };
  const storage = { provider: 'local', local };
  const path = configFile(t, JSON.stringify({ data_dir: join(dir, 'data'), storage }, null, 1));
  for (const args of [
    ['config', 'check', path],
    ['-c', path],
  ]) {
    const { code, stdout, stderr } = await protorelay(...args);
    assert.equal(code, 78, stderr);
    assert.match(
      args[0] === 'config' ? stdout : stderr,
      /relay\.json:\d+: storage\.local\.path: .*file cannot be written: .* is not a folder/,
    );
  }
});

test('tls self-signed takes host names and addresses, and nothing else', async (t) => {
  const dir = folder(t);
  const { code, stderr } = await protorelay('tls', 'self-signed', 'good.test', 'bad name', '--out', dir);
  assert.equal(code, 64);
  assert.match(stderr, /"bad name" is neither a host name nor an address/);
  assert.deepEqual(readdirSync(dir), []);
  const good = ['Relay.example.com', '*.example.com', 'localhost', '192.0.2.1', '2001:db8::1', 'my_host'];
  for (const name of good) assert.ok(isCertificateName(name), name);
  for (const name of ['a..b', '-x.test', 'x.test,y.test', '*', '*.', 'http://x.test', ''])
    assert.ok(!isCertificateName(name), name);
});

test('files for TLS that cannot be used are problems with file, line and key, for a start as for config check', async (t) => {
  const dir = folder(t);
  writeFileSync(join(dir, 'text'), 'of somebody');
  for (const name of ['a', 'b'])
    assert.equal((await protorelay('tls', 'self-signed', 'x.test', '--out', join(dir, name))).code, 0);
  const own = (cert: string, key: string): object => ({
    cert_file: join(dir, cert, 'server.crt'),
    key_file: join(dir, key, 'server.key'),
  });
  const cases: [object, RegExp][] = [
    [{ tls: { cert_file: '/no/such.crt' } }, /:3: tls\.cert_file: \/no\/such\.crt is not there/],
    [{ tls: { cert_file: dir } }, /:3: tls\.cert_file: .* is a folder/],
    [{ tls: { cert_file: join(dir, 'text') } }, /:3: tls\.cert_file: .*text holds no certificate/],
    [
      { tls: { ...own('a', 'a'), key_file: join(dir, 'text') } },
      /:4: tls\.key_file: .* holds no private key/,
    ],
    [{ tls: own('a', 'b') }, /:4: tls\.key_file: .* holds the key of another certificate/],
    [{ tls: { ...own('a', 'a'), ciphers: 'NOSUCH' } }, /:5: tls\.ciphers: OpenSSL knows none of "NOSUCH"/],
    [{ tls: { ...own('a', 'a'), client_ca_file: '/no/ca' } }, /:5: tls\.client_ca_file: .*not there/],
    [
      { tls: { ...own('a', 'a'), certificates: [own('b', 'a')] } },
      /tls\.certificates\[0\]\.key_file: .* another certificate/,
    ],
    [{ tls: own('a', 'a'), delivery: { tls: { ca_file: '/no/ca' } } }, /delivery\.tls\.ca_file: .*not there/],
  ];
  const listeners = [{ host: '127.0.0.1', port: 0, tls: 'required' }];
  const all = await Promise.all(
    cases.map(([settings]) => {
      const path = configFile(t, JSON.stringify({ ...settings, listeners, data_dir: 'data' }, null, 1));
      return protorelay('config', 'check', path);
    }),
  );
  for (const [i, { code, stdout }] of all.entries()) {
    assert.equal(code, 78, stdout);
    assert.match(stdout, (cases[i] as [object, RegExp])[1]);
  }
  const path = configFile(t, JSON.stringify({ tls: own('a', 'b'), listeners, data_dir: 'data' }));
  const { code, stdout, stderr } = await protorelay(path);
  assert.equal(code, 78);
  assert.match(stderr, /relay\.json:1: tls\.key_file: /);
  assert.equal(stdout, '');
  const good = configFile(t, JSON.stringify({ tls: own('a', 'a'), listeners, data_dir: 'data' }));
  assert.equal((await protorelay('config', 'check', good)).code, 0);
});

test('config check warns of a file of users that is not there', async (t) => {
  const auth = { backends: [{ type: 'file', path: 'users.txt' }] };
  const path = configFile(t, JSON.stringify({ data_dir: '.', auth }));
  const before = await protorelay('config', 'check', path);
  assert.equal(before.code, 0);
  assert.match(before.stdout, /warning: .*:1: auth\.backends\[0\]\.path: .*users\.txt is not there yet/);
  writeFileSync(join(path, '../users.txt'), '');
  assert.doesNotMatch((await protorelay('config', 'check', path)).stdout, /users\.txt/);
});

test('config reference prints the page and the schema', async () => {
  const page = await protorelay('config', 'reference');
  assert.equal(page.stdout, readFileSync(join(root, 'docs/configuration.md'), 'utf8'));
  const schema = await protorelay('config', 'reference', '--schema');
  assert.equal(schema.stdout, readFileSync(join(root, 'config/relay.schema.json'), 'utf8'));
});

test('a data folder in use ends with 75 and names the pid', async (t) => {
  const path = configFile(t, '{ "data_dir": "data" }');
  const lock = lockDataDir(join(path, '../data'));
  t.after(() => lock.release());
  const { code, stderr } = await protorelay(path);
  assert.equal(code, 75);
  assert.ok(stderr.includes(`pid ${process.pid}`), stderr);
});

test('what stops a start is said in one line that names it, without a stack', async (t) => {
  const dir = folder(t);
  const taken = createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  writeFileSync(join(dir, 'file'), 'of somebody');
  const tcp = { host: '127.0.0.1', port: 0 };
  const cases: [object, number, RegExp][] = [
    [{ listeners: [{ host: '127.0.0.1', port }] }, 69, /listeners\[0\]\): another program listens there/],
    [
      { listeners: [{ path: join(dir, 'file') }] },
      69,
      /file \(listeners\[0\]\): something else has that name/,
    ],
    [{ listeners: [{ path: dir }] }, 69, /something else has that name/],
    [{ listeners: [{ host: 'no.such.invalid', port: 0 }] }, 69, /no\.such\.invalid has no address/],
    [{ data_dir: join(dir, 'file') }, 73, /file cannot be used: it is not a folder/],
    [{ database: { path: dir } }, 69, /cannot be opened/],
    [{ database: { path: join(dir, 'file') } }, 65, /is damaged or not a sqlite file/],
    [
      { node_id: 'a', database: { driver: 'mysql', port: 1 }, storage: { provider: 'local' } },
      69,
      /127\.0\.0\.1:1\/relay: connect ECONNREFUSED/,
    ],
  ];
  const ran = await Promise.all(
    cases.map(([settings], i) => {
      const config = { data_dir: `data-${i}`, listeners: [tcp], delivery: { enabled: false }, ...settings };
      return protorelay(configFile(t, JSON.stringify(config)));
    }),
  );
  for (const [i, { code, stdout, stderr }] of ran.entries()) {
    const [, wanted, words] = cases[i] as (typeof cases)[number];
    assert.equal(code, wanted, stderr);
    assert.match(stderr, words);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.doesNotMatch(stdout, /\bat .*\.ts:\d/);
  }
});

test('a data folder that cannot be made ends with 73 and is named', async (t) => {
  const path = configFile(t, '{ "data_dir": "file/data" }');
  writeFileSync(join(path, '../file'), '');
  const { code, stderr } = await protorelay(path);
  assert.equal(code, 73);
  assert.match(stderr, /file\/data cannot be used: ENOTDIR/);
});

test('a log file that cannot be opened ends with 73 and is named', async (t) => {
  const path = configFile(t, '{ "data_dir": "data", "log": { "file": "taken" } }');
  mkdirSync(join(path, '../data/taken'), { recursive: true });
  const { code, stderr } = await protorelay(path);
  assert.equal(code, 73);
  assert.match(stderr, /the log file .*data\/taken cannot be opened/);
});

test('queue commands without a relay and without a queue end with 69 and say so', async (t) => {
  const path = configFile(t, '{ "data_dir": "data" }');
  for (const args of [['list'], ['stats'], ['show', 'x'], ['flush', '--all']]) {
    const { code, stderr } = await protorelay('queue', ...args, '-c', path);
    assert.equal(code, 69, stderr);
    assert.match(
      stderr,
      /^protorelay: no relay is running on .*data, and there is no queue .*name its config with -c\n$/,
    );
  }
});

test('a fault of the program itself ends with 70, a disk that is full with 74', async (t) => {
  const path = configFile(t, '{ "data_dir": "data" }');
  const fault = 'process.stdout.write = () => { throw new TypeError("injected") }';
  const main = join(root, 'src/main.ts');
  const broken = await run(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(fault)}`, main, 'config', 'reference'],
    { cwd: root },
  );
  assert.match(broken.stderr, /^protorelay: internal fault: TypeError: injected/);
  assert.equal(broken.code, 70);
  const full = openSync('/dev/full', 'w');
  t.after(() => closeSync(full));
  const listing = spawn(process.execPath, [main, 'config', 'check', '--offline', path], {
    stdio: ['ignore', full, 'ignore'],
  });
  const [code] = await once(listing, 'exit');
  assert.equal(code, 74, 'where what it prints cannot be written');
  for (const one of [70, 74]) provoked.add(one);
});

test('lint ends with 1 for warnings and 2 for errors', async (t) => {
  const dir = folder(t);
  const message = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    return path;
  };
  const whole = [
    'From: a@x.test',
    'Date: Tue, 1 Dec 2026 06:00:00 +0000',
    'Message-ID: <a@x.test>',
    'Subject: s',
    '',
    'x',
    '',
  ];
  const odd = await protorelay('lint', '--offline', message('odd.eml', whole.slice(1).join('\r\n')));
  assert.equal(odd.code, 2, odd.stdout);
  const plain = await protorelay('lint', '--offline', message('plain.eml', whole.join('\r\n')));
  assert.equal(plain.code, 1, plain.stdout);
});

test('every exit code of docs/exit-codes.md was provoked above, and no other', () => {
  const page = readFileSync(join(root, 'docs/exit-codes.md'), 'utf8');
  const documented = [...page.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code));
  assert.deepEqual([...provoked].sort(), documented);
});
