/**
 * Configs that somebody could write by mistake, and the whole of what `protorelay config check` prints of each. FILE stands
 * for the config file, DIR for the folder it is in, TAKEN for a port that PID (this test) listens on, DNS for a resolver.
 */
import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { lockDataDir } from '../../src/base/data-dir.ts';
import { openFilesLimit } from '../../src/check/machine.ts';
import { reportOf } from '../../src/cli/config.ts';
import { checkConfig } from '../../src/load-with-files.ts';
import { makeSelfSigned } from '../../src/native.ts';
import { run } from '../support/child.ts';
import { DnsServer } from '../support/dns-server.ts';
import { MAIN } from '../support/relay-fixture.ts';

const dir = mkdtempSync(join(tmpdir(), 'wrong-'));
const file = join(dir, 'relay.json');
const taken = createServer();
let dns: DnsServer;
let port = 0;

before(async () => {
  dns = await DnsServer.start({ 'broken.test': { fault: 'SERVFAIL' }, 'good.test': { A: ['192.0.2.1'] } });
  await new Promise<void>((listening) => taken.listen(0, '127.0.0.1', listening));
  port = (taken.address() as AddressInfo).port;
  for (const name of ['mx1.test', 'other.test']) {
    const { certificate, key } = makeSelfSigned([name], 30, 'ecdsa');
    writeFileSync(join(dir, `${name}.crt`), certificate);
    writeFileSync(join(dir, `${name}.key`), key);
    const locked = { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' } as const;
    writeFileSync(join(dir, `${name}.locked`), createPrivateKey(key).export(locked));
  }
  writeFileSync(join(dir, 'users'), 'alice\nbob:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n');
});
after(async () => {
  await dns.stop();
  taken.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Whose file this is, and when, cannot be known before. */
function withoutPlaces(text: string): string {
  return text
    .replaceAll(file, 'FILE')
    .replaceAll(dir, 'DIR')
    .replaceAll(dns.address, 'DNS')
    .replace(new RegExp(`\\b${port}\\b`, 'g'), 'TAKEN')

    .replace(/(?<=: )\S+ \(pid \d+\)/g, 'NAME (pid PID)')
    .replace(/\(pid \d+\)/g, '(pid PID)')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');
}

async function check(config: string, options: Parameters<typeof checkConfig>[1] = {}): Promise<string> {
  writeFileSync(
    file,
    config.replaceAll('DIR', dir).replaceAll('TAKEN', String(port)).replaceAll('DNS', dns.address),
  );
  return withoutPlaces(reportOf(await checkConfig(file, options)));
}

const CASES: [string, string, string][] = [
  [
    'a mistyped key',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "smtp": { "max_recipient": 100 }
}
`,
    `error: FILE:4: smtp.max_recipient: unknown key (did you mean "max_recipients"?)
FILE: an error
`,
  ],
  [
    'a key in the wrong place',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "max_recipients": 100
}
`,
    `error: FILE:4: max_recipients: unknown key (it belongs elsewhere: smtp.max_recipients)
FILE: an error
`,
  ],
  [
    'a comma that is missing',
    `{
  "hostname": "mx1.test"
  "data_dir": "data"
}
`,
    `error: FILE:3: column 3: a comma or } is missing before this
FILE: an error
`,
  ],
  [
    'a number out of bounds, and a text where a number belongs',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "max_message_size": "25MB",
  "session_threads": 100
}
`,
    `error: FILE:4: max_message_size: must be a whole number from 1024 to 1099511627776, is "25MB"
error: FILE:5: session_threads: must be "auto" or a whole number from 1 to 64, is 100
FILE: 2 errors
`,
  ],
  [
    'a secret that the environment lacks',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "delivery": {
    "smarthost": { "host": "192.0.2.1", "auth": { "username": "relay", "password": "\${NO_SUCH_SECRET}" } }
  }
}
`,
    `error: FILE:5: delivery.smarthost.auth.password: the environment variable NO_SUCH_SECRET is not set (\${NO_SUCH_SECRET} stands here; $\${NO_SUCH_SECRET} means the text itself)
FILE: an error
`,
  ],
  [
    'an included file that is not there',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "include": ["more.json"]
}
`,
    `error: FILE:4: cannot read DIR/more.json: ENOENT: no such file or directory, open 'DIR/more.json'
FILE: an error
`,
  ],
  [
    'a network with host bits',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "relay_networks": ["127.0.0.0/8", "10.0.0.1/8"]
}
`,
    `error: FILE:4: relay_networks[1]: "10.0.0.1/8" is a host in the network 10.0.0.0/8 (write "10.0.0.0/8" for the whole network, or "10.0.0.1" for this host alone)
FILE: an error
`,
  ],
  [
    'an open relay',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "postmaster": "ops@people.test",
  "listeners": [{ "host": "0.0.0.0", "port": 0 }],
  "relay_networks": ["0.0.0.0/0", "::/0"]
}
`,
    `error: FILE:6: relay_networks[0]: 0.0.0.0/0 lets everybody send to any domain: an open relay (name your own networks; where something before the relay keeps strangers out, set "allow_open_relay": true)
error: FILE:6: relay_networks[1]: ::/0 lets everybody send to any domain: an open relay (name your own networks; where something before the relay keeps strangers out, set "allow_open_relay": true)
FILE: 2 errors
`,
  ],
  [
    'an open relay that somebody wants',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "postmaster": "ops@people.test",
  "listeners": [{ "host": "0.0.0.0", "port": 0 }],
  "relay_networks": ["0.0.0.0/0"],
  "allow_open_relay": true
}
`,
    `warning: FILE:6: relay_networks[0]: 0.0.0.0/0 lets everybody send to any domain: an open relay ("allow_open_relay" is set)
FILE: good
`,
  ],
  [
    'clients from everywhere may say who they are',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "postmaster": "ops@people.test",
  "listeners": [{ "host": "0.0.0.0", "port": 0 }],
  "policy": { "xclient_networks": ["::/0"], "proxy_protocol": { "networks": ["0.0.0.0/0"] } }
}
`,
    `error: FILE:6: policy.xclient_networks[0]: ::/0 lets everybody claim an address in relay_networks, and so send to any domain (name your own networks; where something before the relay keeps strangers out, set "allow_open_relay": true)
error: FILE:6: policy.proxy_protocol.networks[0]: 0.0.0.0/0 believes what address everybody claims, one in relay_networks too, and so lets everybody send to any domain (name your own networks; where something before the relay keeps strangers out, set "allow_open_relay": true)
warning: FILE:6: policy.proxy_protocol.networks[0]: 0.0.0.0/0 lies in relay_networks (127.0.0.0/8): a client that comes with an address of a proxy may relay; leave proxies out of relay_networks (clients that a proxy does not know, UNKNOWN and LOCAL, never may)
FILE: 2 errors
`,
  ],
  [
    'a hostname without a domain',
    `{
  "hostname": "mail",
  "data_dir": "data"
}
`,
    `warning: FILE:2: hostname: "mail" is not fully qualified, and many hosts refuse mail from such a name (write the name that this host has in DNS, such as mx1.example.com)
FILE: good
`,
  ],
  [
    'a port that another program has',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": TAKEN }]
}
`,
    `error: FILE:4: listeners[0].port: NAME (pid PID) listens on 127.0.0.1:TAKEN already (stop it, or write another port)
FILE: an error
`,
  ],
  [
    'an address that this machine does not have',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "postmaster": "ops@people.test",
  "listeners": [{ "host": "192.0.2.77", "port": 2525 }]
}
`,
    `error: FILE:5: listeners[0].host: no interface of this machine has the address 192.0.2.77 (write one that it has; 0.0.0.0 means all of IPv4, :: all)
FILE: an error
`,
  ],
  [
    'the same listener twice, and one that is half of one',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [
    { "host": "127.0.0.1", "port": 2600 },
    { "host": "127.0.0.1", "port": 2600 },
    { "host": "127.0.0.1" }
  ]
}
`,
    `error: FILE:6: listeners[1]: listens on the same as listeners[0]
error: FILE:7: listeners[2]: "port" is missing
FILE: 2 errors
`,
  ],
  [
    'a listener on every address beside one on a single address',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "postmaster": "ops@people.test",
  "listeners": [
    { "host": "0.0.0.0", "port": 2600 },
    { "host": "127.0.0.1", "port": 2600 },
    { "host": "::1", "port": 2601 }
  ]
}
`,
    `error: FILE:7: listeners[1]: cannot have port 2600 beside listeners[0]: one of them is on every address of this machine (leave one of them out, or write another port)
FILE: an error
`,
  ],
  [
    'files of TLS that hold something else, and suites that there are not',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }],
  "tls": {
    "cert_file": "DIR/mx1.test.crt",
    "key_file": "DIR/mx1.test.key",
    "client_ca_file": "DIR/users",
    "client_crl_file": "DIR/mx1.test.crt",
    "ciphersuites": "TLS_AES_128_GCM_SHA256:AES256-SHA"
  }
}
`,
    `error: FILE:8: tls.client_ca_file: DIR/users holds no certificate in PEM format
error: FILE:9: tls.client_crl_file: DIR/mx1.test.crt holds no revocation list in PEM format
error: FILE:10: tls.ciphersuites: TLS 1.3 has no "AES256-SHA" (it has TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_CCM_SHA256, TLS_AES_128_CCM_8_SHA256)
FILE: 3 errors
`,
  ],
  [
    'a socket path that is a file',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "path": "DIR/users" }, { "path": "DIR/no/such/smtp.sock" }]
}
`,
    `error: FILE:4: listeners[0].path: DIR/users is there, and is no socket (write another path)
error: FILE:4: listeners[1].path: the folder DIR/no/such is not there (make it, or write another path)
FILE: 2 errors
`,
  ],
  [
    'a smarthost with its port in the name',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "delivery": { "smarthost": { "host": "mail.test:587" } }
}
`,
    `error: FILE:4: delivery.smarthost.host: must be a host name or address, without scheme and port, is "mail.test:587"
FILE: an error
`,
  ],
  [
    'next hops that have no address',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "dns": { "servers": ["DNS"], "tries": 1 },
  "delivery": {
    "smarthost": { "host": "good.test" },
    "routes": {
      "example.com": { "host": "mial.test" },
      "example.org": { "host": "broken.test" }
    }
  }
}
`,
    `error: FILE:8: delivery.routes["example.com"].host: the name mial.test has no address (mend the name, or write an address)
warning: FILE:9: delivery.routes["example.org"].host: whether broken.test has an address cannot be told now: SERVFAIL
FILE: an error
`,
  ],
  [
    'a resolver that is no address',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "dns": { "servers": ["resolver.test"] }
}
`,
    `error: FILE:4: dns.servers[0]: must be an address, address:port or [IPv6]:port, is "resolver.test"
FILE: an error
`,
  ],
  [
    'TLS without a certificate',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }]
}
`,
    `error: FILE:4: listeners[0].tls: "optional" needs tls.cert_file (to try it: protorelay tls self-signed)
FILE: an error
`,
  ],
  [
    'certificate files that are not there',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }],
  "tls": { "cert_file": "DIR/gone.crt", "key_file": "DIR/gone.key" }
}
`,
    `error: FILE:5: tls.cert_file: DIR/gone.crt is not there
error: FILE:5: tls.key_file: DIR/gone.key is not there
FILE: 2 errors
`,
  ],
  [
    'the key of another certificate',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }],
  "tls": { "cert_file": "DIR/mx1.test.crt", "key_file": "DIR/other.test.key" }
}
`,
    `error: FILE:5: tls.key_file: DIR/other.test.key holds the key of another certificate than DIR/mx1.test.crt (openssl x509 -noout -pubkey -in CERT and openssl pkey -pubout -in KEY must print the same)
FILE: an error
`,
  ],
  [
    'a key with a password',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }],
  "tls": { "cert_file": "DIR/mx1.test.crt", "key_file": "DIR/mx1.test.locked" }
}
`,
    `error: FILE:5: tls.key_file: DIR/mx1.test.locked is encrypted, and nobody is there to type its password (write it without its password: openssl pkey -in KEY -out NEW)
FILE: an error
`,
  ],
  [
    'a certificate for another name',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "optional" }],
  "tls": { "cert_file": "DIR/other.test.crt", "key_file": "DIR/other.test.key" }
}
`,
    `warning: FILE:5: tls.cert_file: is not for mx1.test, and clients that verify it refuse it: it is for other.test (set hostname to one of its names, or get one for it)
FILE: good
`,
  ],
  [
    'a queue in a folder that is not there, and addresses of ours that this machine does not have',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "database": { "path": "DIR/no/queue.db" },
  "delivery": { "source_address": "192.0.2.7" },
  "egress": {
    "sources": [
      { "name": "here", "address": "127.0.0.1" },
      { "name": "elsewhere", "address": "192.0.2.8" },
      { "name": "behind", "address": "192.0.2.9", "proxy": "haproxy://127.0.0.1:9" }
    ]
  }
}
`,
    `error: FILE:4: database.path: the folder DIR/no is not there (make it, or write another path)
error: FILE:5: delivery.source_address: no interface of this machine has the address 192.0.2.7 (write one that it has)
warning: FILE:9: egress.sources[1].address: no interface of this machine has the address 192.0.2.8 (nothing leaves from this source here)
FILE: 2 errors
`,
  ],
  [
    'a folder that cannot be written',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "database": { "path": "DIR/users/queue.db" },
  "log": { "file": "DIR/users/relay.log" }
}
`,
    `error: FILE:4: database.path: DIR/users cannot be written: DIR/users is not a folder
error: FILE:5: log.file: DIR/users cannot be written: DIR/users is not a folder
FILE: 2 errors
`,
  ],
  [
    'users: none yet, and lines that are none',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "auth": {
    "backends": [{ "type": "file", "path": "none-yet" }, { "type": "file", "path": "DIR/users" }]
  }
}
`,
    `warning: FILE:5: auth.backends[0].path: DIR/data/none-yet is not there yet, and so has no users (protorelay user add makes it)
warning: FILE:5: auth.backends[1].path: DIR/users has lines that count for nobody: line 1: the hash of alice is none we can verify, and 1 more
FILE: good
`,
  ],
  [
    'a token and issuers that are not there',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "node_id": "a",
  "storage": { "provider": "local" },
  "database": { "driver": "mysql", "tls": "verify", "tls_ca_file": "ca.pem" },
  "delivery": {
    "smarthost": { "host": "192.0.2.1", "auth": { "username": "relay", "access_token_file": "token" } }
  }
}
`,
    `error: FILE:6: database.tls_ca_file: DIR/data/ca.pem is not there
warning: FILE:8: delivery.smarthost.auth.access_token_file: DIR/data/token is not there (mail to this next hop waits until the token is there)
FILE: an error
`,
  ],
  [
    'limits that contradict one another',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "smtp": { "max_connections": 100, "max_connections_per_ip": 200 },
  "policy": { "connections": { "max_per_ip": 50, "max_per_network": 20 } },
  "retry": { "initial_delay_ms": 600000, "max_delay_ms": 300000, "max_age_ms": 60000 },
  "content_memory_mb": 4,
  "spill_threshold_bytes": 4194304
}
`,
    `warning: FILE:4: smtp.max_connections_per_ip: has no effect: it exceeds smtp.max_connections (100)
warning: FILE:5: policy.connections.max_per_ip: has no effect beyond policy.connections.max_per_network (20)
error: FILE:6: retry.initial_delay_ms: must not exceed retry.max_delay_ms (300000)
warning: FILE:6: retry.initial_delay_ms: reaches retry.max_age_ms (60000): what is deferred once expires without a second attempt
error: FILE:8: spill_threshold_bytes: must be at most a quarter of content_memory_mb (1048576), so that one message cannot fill the memory
FILE: 2 errors
`,
  ],
  [
    'content in a database that cannot have it',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "database": { "driver": "mysql" }
}
`,
    `error: FILE:1: storage.provider: content cannot lie in a mysql database: set storage.provider to "local" or another provider
error: FILE:1: node_id: has no default with database.driver mysql: set node_id to a name no other node of this queue has, as "node_id": "mx1"; where the queue was used without one so far, "node" on one of its nodes
FILE: 2 errors
`,
  ],
  [
    'certificates and keys that cannot go together, and one file twice',
    `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 0, "tls": "required" }],
  "tls": {
    "cert_file": "DIR/mx1.test.crt",
    "key_file": "DIR/mx1.test.key",
    "certificates": [{ "cert_file": "DIR/other.test.crt" }],
    "ciphers": "AES-NONE",
    "client_ca_file": "DIR"
  }
}
`,
    `error: FILE:8: tls.certificates[0].cert_file: DIR/other.test.crt holds no private key in PEM format without a password
error: FILE:9: tls.ciphers: OpenSSL knows none of "AES-NONE"
error: FILE:10: tls.client_ca_file: DIR is a folder, not a file
FILE: 3 errors
`,
  ],
  [
    'much at once',
    `{
  "hostname": "mail",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": 99999 }, { "host": "127.0.0.1", "port": TAKEN }],
  "relay_networks": ["10.0.0.1/8", "all"],
  "smtp": { "vrfi": true },
  "tls": { "cert_file": "DIR/gone.crt" },
  "delivery": { "smarthost": { "host": "mial.test", "prot": 25 } },
  "dns": { "servers": ["DNS"] },
  "database": { "path": "DIR" }
}
`,
    `warning: FILE:1: postmaster: is not set: mail to <postmaster> and postmaster@mail is refused with 550 5.7.1, and RFC 5321 wants it taken; set it to an address that people read
warning: FILE:2: hostname: "mail" is not fully qualified, and many hosts refuse mail from such a name (write the name that this host has in DNS, such as mx1.example.com)
error: FILE:4: listeners[0].port: must be a whole number from 0 to 65535, is 99999
error: FILE:4: listeners[1].port: NAME (pid PID) listens on 127.0.0.1:TAKEN already (stop it, or write another port)
error: FILE:5: relay_networks[0]: "10.0.0.1/8" is a host in the network 10.0.0.0/8 (write "10.0.0.0/8" for the whole network, or "10.0.0.1" for this host alone)
error: FILE:5: relay_networks[1]: must be a network such as 10.0.0.0/8 or an address, is "all"
error: FILE:6: smtp.vrfi: unknown key (did you mean "vrfy"?)
warning: FILE:7: tls.cert_file: has no effect: no listener has "tls" other than "off"
error: FILE:8: delivery.smarthost.host: the name mial.test has no address (mend the name, or write an address)
error: FILE:8: delivery.smarthost.prot: unknown key (did you mean "port"?)
error: FILE:10: database.path: DIR is a folder (name a file)
FILE: 8 errors
`,
  ],
];

for (const [mistake, config, said] of CASES)
  test(mistake, async () => assert.equal(await check(config), said));

test('more than this machine has: open files and memory', async () => {
  const config = `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "accept_processes": 1,
  "content_memory_mb": 65536,
  "smtp": { "max_connections": 1000000 }
}`;
  const said = (await check(config, { offline: true }))
    .replace(/ the \d+ it/, ' the LIMIT it')
    .replace(/has \(\d+\)/, 'has (MB)');
  const files = `warning: FILE:6: smtp.max_connections: 1000000 connections of a process need more open files than the LIMIT it may have here (raise the limit (ulimit -n, LimitNOFILE= of the unit), or lower it)\n`;
  const memory =
    'warning: FILE:5: content_memory_mb: 65536 MB are more than this machine has (MB) (lower it)\n';
  const [limit, bytes] = [openFilesLimit(), totalmem()];
  const few = limit !== null && limit < 1_000_000 ? files : '';
  assert.equal(said, `${bytes < 65_536 * 1_048_576 ? memory : ''}${few}FILE: good\n`);
});

const WITH_TLS = `{
  "hostname": "mx1.test",
  "data_dir": "data",
  "listeners": [{ "host": "127.0.0.1", "port": TAKEN, "tls": "optional" }],
  "tls": { "cert_file": "DIR/mx1.test.crt", "key_file": "DIR/mx1.test.key" }
}`;

test('a certificate that is over, not yet begun, and soon over', async () => {
  const inDays = (days: number) => check(WITH_TLS, { offline: true, nowMs: Date.now() + days * 86_400_000 });
  const at = 'FILE:5: tls.cert_file:';
  assert.equal(await inDays(60), `error: ${at} expired at TIME (renew it)\nFILE: an error\n`);
  assert.equal(await inDays(20), `warning: ${at} expires at TIME (renew it)\nFILE: good\n`);
  assert.equal(
    await inDays(-60),
    `error: ${at} is not valid before TIME (look at the clock of this machine)\nFILE: an error\n`,
  );
  assert.equal(await inDays(0), 'FILE: good\n');
});

test('a port that the relay of this config has is no mistake', async (t) => {
  const lock = lockDataDir(join(dir, 'data'));
  t.after(() => lock.release());
  assert.equal(
    await check(WITH_TLS),
    'note: FILE:4: listeners[0].port: the relay that runs with this data_dir (pid PID) listens on 127.0.0.1:TAKEN\nFILE: good\n',
  );
});

test('config check ends with 78 where there is an error and with 0 where there is none; --json says the same in fields', async () => {
  const protorelay = (...args: string[]) => run(process.execPath, [MAIN, 'config', 'check', file, ...args]);
  const expected = await check('{ "hostname": "mail", "data_dir": "data",\n "smtp": { "max_hops": 0 } }');
  const [text, json] = await Promise.all([protorelay(), protorelay('--json', '--offline')]);
  assert.deepEqual([text.code, json.code, text.stderr, json.stderr], [78, 78, '', '']);
  assert.equal(withoutPlaces(text.stdout), expected);
  assert.deepEqual(JSON.parse(json.stdout)[1], {
    severity: 'error',
    file,
    line: 2,
    column: 12,
    key: 'smtp.max_hops',
    problem: 'must be a whole number from 1 to 1000, is 0',
    mend: null,
  });
  await check('{ "hostname": "mail", "data_dir": "data" }');
  const { code, stdout } = await protorelay('--json');
  assert.deepEqual([code, JSON.parse(stdout).length], [0, 1]);
});
