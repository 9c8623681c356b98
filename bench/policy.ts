/**
 * What the connection policy costs a connection: CPU of each part switched on alone, its answers cached, for one
 * session with one message (connection opened, MAIL, RCPT, closed), above what a session without policy costs.
 * No sockets: what is measured is the stage. The target is 5 µs each.
 */
import { parseArgs } from 'node:util';
import { silentLog } from '../src/base/log.ts';
import { type Config, configSchema } from '../src/config/schema.ts';
import type { PolicyQueries } from '../src/policy/dns.ts';
import { ConnectionGate } from '../src/policy/gate.ts';
import {
  initializePolicyMemory,
  PolicyMemory,
  policyMemoryBytes,
  policySizes,
} from '../src/policy/host-memory.ts';
import { Policy } from '../src/policy/policy.ts';
import { SessionPolicy } from '../src/policy/session-policy.ts';

const USAGE = `usage: ./build.sh bench policy [--connections N] [--clients N]
  --connections N  per part and round (default 200000)
  --clients N      addresses they come from (default 1000)`;

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '200000' },
    clients: { type: 'string', default: '1000' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const connections = Number(values.connections);
const clients = Array.from({ length: Number(values.clients) }, (_, i) => `10.${(i >> 8) & 255}.${i & 255}.7`);

/** Every name has one good answer, but lists know nobody. */
const queries: PolicyQueries = {
  resolve4: async (name) => {
    if (name.includes('.bl')) throw Object.assign(new Error(name), { code: 'ENOTFOUND' });
    const [, second = '0', third = '0'] = /^mail-(\d+)-(\d+)/.exec(name) ?? [];
    return [{ address: `10.${second}.${third}.7`, ttl: 3600 }];
  },
  resolve6: async () => [],
  resolveMx: async () => [{ exchange: 'mx.there.net' }],
  resolvePtr: async (name) => {
    const [, third, second] = name.split('.');
    return [`mail-${second}-${third}.there.net`];
  },
};

const on = { enabled: true, exempt: [] };
const zones = ['a.bl', 'b.bl', 'c.bl'].map((zone) => ({ zone }));
const many = 1_000_000_000;
const PARTS: Record<string, object> = {
  'none (the rest is above this)': {},
  connections: { connections: { ...on, max_per_ip: many / 1000, max_per_network: many / 1000 } },
  'rates (connection, message, recipient)': {
    rates: {
      ...on,
      limits: ['connections', 'messages', 'recipients'].map((count) => ({ count, limit: many })),
    },
  },
  bans: { bans: on },
  reverse_dns: { reverse_dns: on },
  helo: { helo: { ...on, checks: ['syntax', 'literal', 'own_name', 'resolves', 'matches'] } },
  'dnsbl (three zones)': { dnsbl: { ...on, zones } },
  sender_domain: { sender_domain: on },
  'address_validation (all stages)': {
    address_validation: { ...on, stages: ['basic', 'extended', 'dns_mx'] },
  },
  greylist: { greylist: { ...on, delay_ms: 0, client_passes: 0 } },
  'exempt by network': { dnsbl: { enabled: true, zones, exempt: ['10.0.0.0/8'] } },
};

async function measure(part: object): Promise<number> {
  const config: Config = configSchema.parse({ data_dir: '.', hostname: 'relay.test', policy: part });
  const sizes = policySizes(config, 2);
  const shared = new SharedArrayBuffer(policyMemoryBytes(sizes));
  initializePolicyMemory(shared, sizes, 7);
  const memory = new PolicyMemory(shared, sizes, 0);
  // Somebody is banned, as on every host: else nothing is looked up.
  memory.bans.put(
    { ip: [0, 0, 0xffff, 1], bits: 128 },
    { kind: 'auth', sinceMs: 0, untilMs: 4e12, times: 1 },
  );
  const clock = { nowMs: Date.now() };
  const gate = new ConnectionGate(config, memory, silentLog);
  const policy = new Policy(config, { gate, memory, log: silentLog, clock, queries });
  let waits = 0;
  let refusals = 0;
  const connect = (address: string): void => {
    if (gate.accept(address, clock.nowMs) !== null) refusals++;
    const session = new SessionPolicy(policy, 's1', address, false);
    const helo = `mail-${address.split('.')[1]}-${address.split('.')[2]}.there.net`;
    session.opened();
    for (const answer of [
      session.mail('a@there.net', 'there.net', helo),
      session.recipient('a@there.net', 'b@here.net', 'here.net'),
    ])
      if (answer instanceof Promise) waits++;
      else if (answer !== null) refusals++;
    session.closed();
    gate.leave(address);
  };
  // Everything is asked once, and again until nothing has to be waited for.
  for (let round = 0; round < 4; round++) {
    for (const address of clients) connect(address);
    await new Promise((done) => setTimeout(done, 50));
  }
  waits = refusals = 0;
  const before = process.cpuUsage();
  for (let i = 0; i < connections; i++) connect(clients[i % clients.length] as string);
  const { user, system } = process.cpuUsage(before);
  if (waits + refusals > 0) throw new Error(`${waits} waits and ${refusals} refusals where none should be`);
  return (user + system) / connections;
}

await measure({}); // the compiler has seen it once
let base = 0;
let over = 0;
for (const [name, part] of Object.entries(PARTS)) {
  const rounds = [await measure(part), await measure(part), await measure(part)];
  const us = Math.min(...rounds);
  if (base === 0) base = us;
  const cost = us === base ? us : us - base;
  if (us !== base && cost > 5) over++;
  process.stdout.write(`${name.padEnd(42)} ${cost.toFixed(2).padStart(6)} µs\n`);
}
process.exitCode = over === 0 ? 0 : 1;
