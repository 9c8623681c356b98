/** What the schema cannot say: rules between keys, and values that are well formed but make no sense. Pure. */
import { isIP } from 'node:net';
import { isDomainForm } from '../base/domain.ts';
import { checkAttributes } from './attributes-rules.ts';
import { checkAuth } from './auth-rules.ts';
import { checkDane, checkTlsReports } from './dane-rules.ts';
import { checkEgress } from './egress-rules.ts';
import { checkHttp } from './http-rules.ts';
import { checkLimits } from './limit-rules.ts';
import { listenerName } from './listener-name.ts';
import { networkFault } from './networks.ts';
import { checkOpenRelay } from './open-relay.ts';
import { checkPolicy } from './policy-rules.ts';
import { checkPostmaster } from './postmaster-rules.ts';
import { checkReturnPath } from './return-path-rules.ts';
import type { Finding, Say } from './say.ts';
import type { Config, ServerConfig } from './schema.ts';
import { checkSigning } from './signing-rules.ts';
import { ifSoundNow } from './unsound.ts';

export interface Findings {
  problems: Finding[];
  /** What is odd, but no reason to refuse the config. */
  warnings: Finding[];
}

/** @param isSet whether a key stands in the config file (defaults are not the operator's doing). */
export function checkRules(config: Config, isSet: (path: string[]) => boolean): Findings {
  const problems: Finding[] = [];
  const warnings: Finding[] = [];
  const problem: Say = (path, message, mend) => void problems.push({ path, message, ...(mend && { mend }) });
  const warning: Say = (path, message, mend) => void warnings.push({ path, message, ...(mend && { mend }) });
  const checks = [
    () => checkListeners(config, problem),
    () => checkTls(config, isSet, problem, warning),
    () => checkHostname(config, warning),
    () => checkNetworks(config, problem),
    () => checkOpenRelay(config, problem, warning),
    () => checkServers(config, problem),
    () => checkSource(config, problem),
    () => checkHosts(config, problem),
    () => checkEgress(config, problem, warning),
    () => checkDomains(config, problem),
    () => checkPostmaster(config, problem, warning),
    () => checkDatabase(config, isSet, problem, warning),
    () => checkScheduler(config, isSet, problem, warning),
    () => checkDistributed(config, problem),
    () => checkHdfsWeb(config, problem, warning),
    () => checkJournal(config, isSet, problem, warning),
    () => checkAttributes(config, problem, warning),
    () => checkAuth(config, problem, warning),
    () => checkPolicy(config, problem, warning),
    () => checkDane(config, warning),
    () => checkTlsReports(config, problem),
    () => checkSigning(config, problem, warning),
    () => checkReturnPath(config, problem, warning),
    () => checkHttp(config, problem, warning),
    ...checkLimits(config, isSet, problem, warning),
    () => checkAckMode(config, warning),
  ];
  for (const check of checks) ifSoundNow(check);
  return { problems, warnings };
}

function checkAckMode({ inbound_ack_mode: mode }: Config, warning: Say): void {
  if (mode === 'after_enqueue')
    warning(
      ['inbound_ack_mode'],
      'after_enqueue answers 250 before the message is on disk: a crash can lose it',
    );
}

/** Many hosts refuse the EHLO of a name without a domain, and no reply to a report finds the way to it. */
function checkHostname({ hostname }: Config, warning: Say): void {
  if (hostname.replace(/\.$/, '').includes('.') || isHostAddress(hostname)) return;
  warning(
    ['hostname'],
    `"${hostname}" is not fully qualified, and many hosts refuse mail from such a name`,
    'write the name that this host has in DNS, such as mx1.example.com',
  );
}

const isHostAddress = (name: string): boolean => isIP(name) !== 0 || name.startsWith('[');

function checkListeners(config: Config, problem: Say): void {
  const seen = new Map<string, number>();
  for (const [i, { host, port, path, fd_name: fdName }] of config.listeners.entries()) {
    const isTcp = host !== undefined || port !== undefined;
    if ([isTcp, path !== undefined, fdName !== undefined].filter(Boolean).length !== 1) {
      problem(['listeners', i], 'needs either "host" and "port", or "path", or "fd_name"');
      continue;
    }
    if (isTcp && (host === undefined || port === undefined)) {
      problem(['listeners', i], `"${host === undefined ? 'host' : 'port'}" is missing`);
      continue;
    }
    const covered = config.listeners.slice(0, i).findIndex((other) => covers(other, { host, port }));
    if (covered >= 0)
      problem(
        ['listeners', i],
        `cannot have port ${port} beside listeners[${covered}]: one of them is on every address of this machine`,
        'leave one of them out, or write another port',
      );
    const name = path ?? (fdName === undefined ? `${host} port ${port}` : `fd_name ${fdName}`);
    const earlier = seen.get(name);
    if (earlier !== undefined && port !== 0)
      problem(['listeners', i], `listens on the same as listeners[${earlier}]`);
    seen.set(name, i);
  }
  const names = config.listeners.map(listenerName);
  for (const [i, { name }] of config.listeners.entries()) {
    const other = names.findIndex((one, at) => one === name && at !== i);
    if (other >= 0) problem(['listeners', i, 'name'], `is the name of listeners[${other}] too`);
  }
}

/** Whether one of two addresses, of the same port and family, stands for all. */
function covers(one: Pick<Config['listeners'][number], 'host' | 'port'>, other: typeof one): boolean {
  const [a, b] = [one.host ?? '', other.host ?? ''];
  if (one.port !== other.port || one.port === 0 || a === b || isIP(a) !== isIP(b)) return false;
  return [a, b].some((host) => host === '0.0.0.0' || host === '::');
}

function checkTls(
  { tls, listeners, delivery }: Config,
  isSet: (path: string[]) => boolean,
  problem: Say,
  warning: Say,
): void {
  for (const [i, { tls: mode, client_certificate: wanted }] of listeners.entries()) {
    if (mode === 'off' && wanted !== 'off')
      problem(['listeners', i, 'client_certificate'], 'needs "tls" other than "off"');
    if (mode !== 'off' && tls.cert_file === undefined)
      problem(
        ['listeners', i, 'tls'],
        `"${mode}" needs tls.cert_file (to try it: protorelay tls self-signed)`,
      );
    if (wanted === 'required' && tls.client_ca_file === undefined && tls.client_fingerprints.length === 0)
      problem(
        ['listeners', i, 'client_certificate'],
        '"required" needs tls.client_ca_file or tls.client_fingerprints, else every client is refused',
      );
  }
  if (tls.cert_file === undefined && (tls.key_file !== undefined || tls.certificates.length > 0))
    problem(['tls'], 'needs "cert_file"; "key_file" and "certificates" go with it');
  if (tls.cert_file !== undefined && listeners.every((listener) => listener.tls === 'off'))
    warning(['tls', 'cert_file'], 'has no effect: no listener has "tls" other than "off"');
  if (delivery.tls.key_file !== undefined && delivery.tls.cert_file === undefined)
    problem(['delivery', 'tls', 'key_file'], 'needs "cert_file" beside it');
  for (const key of ['tls', 'dane'] as const)
    for (const domain of Object.keys(delivery[key].destinations))
      if (!isDomainForm(domain))
        problem(['delivery', key, 'destinations'], `must be keyed by domains, has "${domain}"`);
  const hops = [
    { at: ['delivery', 'smarthost'], hop: delivery.smarthost },
    ...Object.entries(delivery.routes).map(([domain, hop]) => ({ at: ['delivery', 'routes', domain], hop })),
  ];
  for (const { at, hop } of hops) {
    if (hop?.tls?.implicit === true && (hop.tls.mode ?? delivery.tls.mode) === 'none')
      problem([...at, 'tls', 'implicit'], 'means TLS, and "mode" none');
    if (hop?.port === 465 && hop.tls?.implicit !== true && !isSet([...at, 'tls', 'implicit']))
      warning([...at, 'port'], '465 speaks TLS from the first byte: set "tls": { "implicit": true }');
  }
}

function checkNetworks(config: Config, problem: Say): void {
  for (const [i, network] of config.relay_networks.entries()) {
    const fault = networkFault(network);
    if (fault !== null) problem(['relay_networks', i], fault.message, fault.mend);
  }
}

function checkServers(config: Config, problem: Say): void {
  for (const [i, server] of config.dns.servers.entries()) {
    if (!isServer(server)) {
      problem(['dns', 'servers', i], `must be an address, address:port or [IPv6]:port, is "${server}"`);
    }
  }
}

function checkSource(config: Config, problem: Say): void {
  const { source_address: source, ip_family: family } = config.delivery;
  if (source !== undefined && isIP(source) === 0)
    problem(['delivery', 'source_address'], `must be an IPv4 or IPv6 address, is "${source}"`);
  else if (source !== undefined && family !== 'any' && family !== `ipv${isIP(source)}`)
    problem(['delivery', 'source_address'], `must be an address of delivery.ip_family (${family})`);
}

/** Hosts whose port is in a key of its own. */
function checkHosts({ listeners, delivery, database }: Config, problem: Say): void {
  const hosts: [Finding['path'], string | undefined][] = [
    ...listeners.map(({ host }, i): [Finding['path'], string | undefined] => [
      ['listeners', i, 'host'],
      host,
    ]),
    [['delivery', 'smarthost', 'host'], delivery.smarthost?.host],
    ...Object.entries(delivery.routes).map(([domain, { host }]): [Finding['path'], string] => [
      ['delivery', 'routes', domain, 'host'],
      host,
    ]),
  ];
  if (database.driver === 'mysql') hosts.push([['database', 'host'], database.host]);
  if (database.driver === 'mysql_distributed')
    for (const [i, { host }] of database.shards.entries())
      hosts.push([['database', 'shards', i, 'host'], host]);
  for (const [path, host] of hosts)
    if (host !== undefined && !isHost(host))
      problem(path, `must be a host name or address, without scheme and port, is "${host}"`);
}

/** A name, or an address, in brackets or not. */
function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const [, literal] = /^\[(?:IPv6:)?([^\]]*)\]$/i.exec(text) ?? [];
  return literal === undefined ? /^[^\s:/*[\]@]+$/.test(text) : isIP(literal) !== 0;
}

/** `host` or `host:port` */
function checkPorts(places: readonly string[], path: Finding['path'], problem: Say): void {
  for (const [i, place] of places.entries()) {
    const [, port] = /[^:]:(\d+)$|^\[.*\]:(\d+)$/.exec(place)?.filter((part) => part !== undefined) ?? [];
    if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535))
      problem([...path, i], `must have a port from 1 to 65535, is "${place}"`);
  }
}

/** A domain that no address can have would have no effect; session threads would refuse it when they start. */
function checkDomains(config: Config, problem: Say): void {
  for (const [i, entry] of config.relay_domains.entries()) {
    if (!isDomainForm(entry.replace(/^\./, ''))) {
      problem(
        ['relay_domains', i],
        `must be a domain such as example.com, or .example.com for its subdomains, is "${entry}"`,
      );
    }
  }
  for (const domain of Object.keys(config.delivery.routes)) {
    if (!isDomainForm(domain) && !/^\[.+\]$/.test(domain)) {
      problem(['delivery', 'routes'], `must be keyed by domains such as example.com, has "${domain}"`);
    }
  }
}

function isServer(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const [, address = '', port = ''] = /^(?:\[([^\]]+)\]|[^:]+):(\d{1,5})$/.exec(text) ?? [];
  const host = address === '' ? (text.split(':')[0] ?? '') : address;
  return isIP(host) === (address === '' ? 4 : 6) && Number(port) >= 1 && Number(port) <= 65535;
}

function checkDatabase(config: Config, isSet: (path: string[]) => boolean, problem: Say, warning: Say): void {
  const { database } = config;
  if (database.driver === 'sqlite') {
    checkSqlite(config, database, isSet, problem, warning);
    return;
  }
  if (config.storage.provider === 'database') {
    problem(
      ['storage', 'provider'],
      `content cannot lie in a ${database.driver} database: set storage.provider to "local" or another provider`,
    );
  }
  if (!isSet(['node_id'])) {
    problem(
      ['node_id'],
      `has no default with database.driver ${database.driver}: set node_id to a name no other node of this queue has, as "node_id": "mx1"; where the queue was used without one so far, "node" on one of its nodes`,
    );
  }
  const servers = database.driver === 'mysql' ? [database] : database.shards;
  for (const [i, server] of servers.entries()) {
    const path = database.driver === 'mysql' ? ['database'] : ['database', 'shards', i];
    checkServer(config, server, path, isSet, problem);
  }
  if (database.driver === 'mysql_distributed') checkShards(database, isSet, problem);
}

function checkRedis({ url, topology, nodes }: Config['scheduler']['redis'], problem: Say): void {
  const at = (key: string): string[] => ['scheduler', 'redis', key];
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || /[,\s]/.test(parsed.host))
    problem(at('url'), 'is no URL of one server; several are named by topology and nodes');
  if (topology === 'single' && nodes.length > 0)
    problem(at('nodes'), 'needs topology "sentinel" or "cluster"');
  if (topology !== 'single' && nodes.length === 0)
    problem(at('nodes'), `must name nodes with topology "${topology}"`);
  checkPorts(nodes, at('nodes'), problem);
  if (topology === 'cluster' && parsed !== null && Number(parsed.pathname.slice(1)) > 0)
    problem(at('url'), 'must name no database: a cluster has only number 0');
}

function checkScheduler(
  { database, delivery, policy, scheduler: { engine, redis } }: Config,
  isSet: (path: string[]) => boolean,
  problem: Say,
  warning: Say,
): void {
  const used = engine === 'bullmq' || policy.scope === 'cluster';
  checkRedis(redis, problem);
  if (used && redis.tls_ca_file !== null && !redis.url.startsWith('rediss:'))
    problem(['scheduler', 'redis', 'tls_ca_file'], 'has an effect with a rediss:// URL only');
  if (engine === 'embedded') {
    if (!used && isSet(['scheduler', 'redis']))
      warning(
        ['scheduler', 'redis'],
        'has no effect: scheduler.engine is "embedded", and policy.scope is not "cluster"',
      );
    if (delivery.max_cluster_connections_per_destination > 0)
      problem(
        ['delivery', 'max_cluster_connections_per_destination'],
        'needs scheduler.engine "bullmq"; for one relay set max_connections_per_destination',
      );
    return;
  }
  if (database.driver === 'sqlite')
    problem(
      ['scheduler', 'engine'],
      'bullmq needs a queue that nodes share: set database.driver to "mysql" or "mysql_distributed"',
    );
}

function checkServer(
  config: Config,
  server: ServerConfig,
  path: Finding['path'],
  isSet: (path: string[]) => boolean,
  problem: Say,
): void {
  if (server.initial_pool_size > server.max_pool_size)
    problem([...path, 'initial_pool_size'], `must not exceed max_pool_size (${server.max_pool_size})`);
  if (config.persist_min_db_available_connections >= server.max_pool_size)
    problem(
      ['persist_min_db_available_connections'],
      `must be less than max_pool_size (${server.max_pool_size}): else a single commit would refuse all other mail`,
    );
  if (server.query_timeout_ms >= config.lease_ms && isSet([...path, 'query_timeout_ms'].map(String)))
    problem(
      [...path, 'query_timeout_ms'],
      `must be less than lease_ms (${config.lease_ms}): else entries go to others while their result is being written`,
    );
  checkPorts(server.endpoints, [...path, 'endpoints'], problem);
  if (server.tls_ca_file !== null && server.tls !== 'verify')
    problem([...path, 'tls_ca_file'], 'has an effect with "tls": "verify" only');
}

function checkShards(
  database: Extract<Config['database'], { driver: 'mysql_distributed' }>,
  isSet: (path: string[]) => boolean,
  problem: Say,
): void {
  const { shards, router } = database;
  const names = new Map<string, number>();
  const ids = new Map<number, number>();
  const databases = new Map<string, number>();
  for (const [i, { name, id, host, port, socket, database: schema }] of shards.entries()) {
    const number = id ?? i;
    const place = JSON.stringify([socket ?? [host.toLowerCase(), port], schema]);
    const same = databases.get(place);
    if (same !== undefined)
      problem(
        ['database', 'shards', i],
        `is the database of shards[${same}] too: every shard has one of its own`,
      );
    databases.set(place, i);
    if (names.has(name))
      problem(['database', 'shards', i, 'name'], `is the name of shards[${names.get(name)}] too`);
    if (ids.has(number))
      problem(
        ['database', 'shards', i],
        `has the number ${number}, which shards[${ids.get(number)}] has too ("id")`,
      );
    names.set(name, i);
    ids.set(number, i);
  }
  if (shards.every(({ weight }) => weight === 0))
    problem(['database', 'shards'], 'at least one must have a weight above 0');
  for (const [domain, name] of Object.entries(router.domains))
    if (!names.has(name))
      problem(['database', 'router', 'domains', domain], `no shard has the name "${name}"`);
  if (router.table_shard !== undefined && !names.has(router.table_shard))
    problem(['database', 'router', 'table_shard'], `no shard has the name "${router.table_shard}"`);
  if (router.type !== 'static' && isSet(['database', 'router', 'domains']))
    problem(['database', 'router', 'domains'], 'has an effect with the router "static" only');
}

function checkSqlite(
  config: Config,
  database: Extract<Config['database'], { driver: 'sqlite' }>,
  isSet: (path: string[]) => boolean,
  problem: Say,
  warning: Say,
): void {
  const inMemory = database.path === ':memory:';
  if (config.persist_min_db_available_connections > 1) {
    problem(
      ['persist_min_db_available_connections'],
      'must be 0 or 1 with the sqlite driver: it has one writer, and more would refuse all mail',
    );
  }
  if (config.persist_threads !== 'auto' && config.persist_threads !== 1) {
    problem(['persist_threads'], 'must be "auto" or 1 with the sqlite driver: it has one writer');
  }
  if (inMemory)
    warning(['database', 'path'], ':memory: keeps the queue in memory only: a restart loses all mail in it');
  if (inMemory && config.inbound_ack_mode === 'after_persist') {
    warning(
      ['inbound_ack_mode'],
      'after_persist cannot promise anything with a :memory: database: 250 means "in memory"',
    );
  }
  if (!inMemory && isSet(['database', 'max_messages'])) {
    warning(['database', 'max_messages'], 'has no effect: it bounds a :memory: database only');
  }
}

function checkDistributed({ storage: { provider, distributed }, database }: Config, problem: Say): void {
  const at = ['storage', 'distributed'];
  const { roots, replica_count, write_quorum } = distributed;
  if (provider === 'distributed' && roots.length === 0)
    problem([...at, 'roots'], 'needs at least one folder with the distributed provider');
  if (roots.length > 0 && replica_count > roots.length)
    problem([...at, 'replica_count'], `must not exceed the number of roots (${roots.length})`);
  if (write_quorum > replica_count)
    problem([...at, 'write_quorum'], `must not exceed replica_count (${replica_count})`);
  for (const [i, root] of roots.entries())
    for (const [j, other] of roots.slice(0, i).entries())
      if (root === other || root.startsWith(`${other}/`) || other.startsWith(`${root}/`))
        problem([...at, 'roots', i], `is the same folder as roots[${j}], or one lies within the other`);
  const inMemory = database.driver === 'sqlite' && database.path === ':memory:';
  if (inMemory && (provider === 'distributed' || provider === 'hdfs_web'))
    problem(
      ['storage', 'provider'],
      'must be "database" or "local" with a :memory: queue: content elsewhere would outlive the queue that knows it',
    );
}

function checkJournal(
  { inbound_ack_mode, database, journal, max_message_size }: Config,
  isSet: (path: string[]) => boolean,
  problem: Say,
  warning: Say,
): void {
  if (inbound_ack_mode !== 'after_journal') {
    for (const key of ['max_mb', 'segment_mb', 'max_delay_ms'])
      if (isSet(['journal', key]))
        warning(['journal', key], 'has no effect: it is for inbound_ack_mode "after_journal"');
    return;
  }
  if (database.driver === 'sqlite')
    problem(
      ['inbound_ack_mode'],
      'after_journal is for the mysql drivers: with sqlite the queue is on the local disk already, and after_persist costs the same one fsync',
    );
  if (journal.segment_mb * 4 > journal.max_mb)
    problem(['journal', 'segment_mb'], `must be at most a quarter of journal.max_mb (${journal.max_mb})`);
  if (max_message_size * 4 > journal.max_mb * 1_048_576)
    problem(['journal', 'max_mb'], 'must be at least four times max_message_size');
}

function checkHdfsWeb({ storage, ...config }: Config, problem: Say, warning: Say): void {
  const at = ['storage', 'hdfs_web'];
  const { endpoints, timeout_ms } = storage.hdfs_web;
  if (storage.provider === 'hdfs_web' && endpoints.length === 0)
    problem([...at, 'endpoints'], 'needs at least one namenode with the hdfs_web provider');
  for (const [i, endpoint] of endpoints.entries())
    if (!/^https?:\/\/[^/?#@\s]+\/?$/.test(endpoint) || !URL.canParse(endpoint))
      problem([...at, 'endpoints', i], `must be http://host:port or https://host:port, is "${endpoint}"`);
  if (storage.provider === 'hdfs_web' && timeout_ms > config.inbound_persist_wait_timeout_ms)
    warning(
      [...at, 'timeout_ms'],
      `exceeds inbound_persist_wait_timeout_ms (${config.inbound_persist_wait_timeout_ms}): clients get 451 before a try ends`,
    );
}
