/**
 * From a path to a Config: reads, fills in, merges, validates, resolves paths. Either the whole config is good or
 * nothing of it is used: every problem is listed at once, each with file, line, key and what to do.
 */
import { hostname as machineName } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { RelayError } from '../base/errors.ts';
import type { Node } from './jsonc.ts';
import { inOrder, problemAt, problemsOf, type Said, saidOf, textOf } from './problems.ts';
import { checkRules } from './rules.ts';
import type { Finding } from './say.ts';
import { type Config, configSchema } from './schema.ts';
import { shapingPaths } from './shaping-schema.ts';
import {
  type Environment,
  has,
  nodeAt,
  type Problem,
  pathsOf,
  type ReadFile,
  readSource,
  type Source,
  toValue,
} from './source.ts';
import { markFaulty, withoutFaults } from './unsound.ts';

export interface LoadedConfig {
  config: Config;
  /** 'file:line: key: what is odd' */
  warnings: string[];
  files: string[];
  /** Puts a finding about a key in words, with file and line. */
  place(finding: Finding): string;
}

/** All that can be said of a config without looking at anything else. */
export interface Examined {
  /** What is sound of it, other values throw for `ifSound`; null when the rest cannot be judged by itself. */
  config: Config | null;
  /** The same with defaults in place of what is faulty. */
  rest: Config | null;
  /** Errors and warnings. */
  said: Said[];
  files: string[];
  isSet: IsSet;
  say(severity: Said['severity'], finding: Finding): Said;
}

/** Whether a key stands in the config: a default is not the operator's doing. */
export type IsSet = (path: readonly string[]) => boolean;

/** All that is wrong with a config, one line each. */
export class ConfigError extends RelayError {
  readonly problems: string[];

  constructor(path: string, problems: string[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    super('config_invalid', `${path} has ${count}:\n${problems.map((p) => `  ${p}`).join('\n')}`);
    this.problems = problems;
  }
}

interface LoadOptions {
  read?: ReadFile;
  machineName?: string;
}

/** Reads and validates; whatever is wrong is said, in the order of the files. */
export function examineConfig(
  path: string,
  environment: Environment = process.env,
  options: LoadOptions = {},
): Examined {
  const file = resolve(path);
  const source = readSource(file, environment, options.read);
  const { root, files, complete } = source;
  const isSet: IsSet = (key) => has(root, key);
  const say: Examined['say'] = (severity, { path: key, message, mend }) =>
    saidOf(severity, problemAt(root, key, message, mend));
  const { value, issues, faulty } = validate(source);
  const said = [...source.problems, ...issues].map((problem) => saidOf('error', problem));
  // What a file that cannot be read says may be what the rules would miss.
  if (value === null || !complete)
    return { config: null, rest: null, said: inOrder(said), files, isSet, say };
  const named = withHostname(value, isSet, options.machineName ?? machineName());
  const config = resolvePaths(withServableMechanisms(named, isSet), root, file);
  const rest = withinLease(structuredClone(config));
  markFaulty(config, faulty);
  const { problems, warnings } = checkRules(config, isSet);
  said.push(...problems.map((one) => say('error', one)), ...warnings.map((one) => say('warning', one)));
  return { config, rest, said: inOrder(said), files, isSet, say };
}

/**
 * Loads and validates; paths in the result are absolute.
 * @throws ConfigError listing every problem.
 */
export function loadConfig(
  path: string,
  environment: Environment = process.env,
  options: LoadOptions = {},
): LoadedConfig {
  const { config, said, files, say } = examineConfig(path, environment, options);
  const of = (severity: Said['severity']): string[] =>
    said.filter((one) => one.severity === severity).map(textOf);
  const problems = of('error');
  if (config === null || problems.length > 0) throw new ConfigError(resolve(path), problems);
  const place = (finding: Finding): string => textOf(say('warning', finding));
  return { config: withinLease(config), warnings: of('warning'), files, place };
}

/**
 * The config for a command that goes by these keys alone: faults elsewhere, and secrets that are not set here, are no
 * concern of its.
 * @throws ConfigError listing every problem, when one of them is about these keys, or may be.
 */
export function configFor(
  keys: readonly string[],
  path: string,
  environment: Environment = process.env,
): Config {
  const { rest, said } = examineConfig(path, environment);
  const problems = said.filter(({ severity }) => severity === 'error');
  const concerns = ({ key }: Said): boolean =>
    key === null ||
    keys.some((needed) => key === needed || key.startsWith(`${needed}.`) || key.startsWith(`${needed}[`));
  if (rest !== null && !problems.some(concerns)) return rest;
  throw new ConfigError(resolve(path), (rest === null ? problems : problems.filter(concerns)).map(textOf));
}

/**
 * The data folder alone, absolute: enough to ask a running relay, whatever else is wrong with its config by now and
 * whichever secrets this environment lacks.
 * @throws ConfigError listing every problem, when they leave it open where data_dir is.
 */
export function dataDirOf(path: string, environment: Environment = process.env, read?: ReadFile): string {
  const file = resolve(path);
  const { root, complete, unset, variables } = readSource(file, environment, read);
  const isSet = has(root, ['data_dir']);
  const node = nodeAt(root, ['data_dir']);
  const given = node.kind === 'scalar' ? (variables.get(node) ?? node.value) : undefined;
  const { success, data } = configSchema.shape.data_dir.safeParse(isSet ? given : undefined);
  if (!success || unset.has(node) || !(isSet || complete))
    return loadConfig(path, environment, read === undefined ? {} : { read }).config.data_dir;
  return dataDirPath(data, root, file);
}

function validate(source: Source): {
  value: Config | null;
  issues: Problem[];
  faulty: (readonly PropertyKey[])[];
} {
  const unset = pathsOf(source.root, source.unset);
  const unsetProblems = unset.map((path) =>
    problemAt(source.root, path, source.unset.get(nodeAt(source.root, path)) ?? ''),
  );
  // A variable that looks like a number may stand where text is wanted (node_id "7"): then it is turned back into text.
  for (;;) {
    const result = configSchema.safeParse(toValue(source.root));
    if (result.success) return { value: result.data, issues: unsetProblems, faulty: unset };
    let retry = false;
    for (const issue of result.error.issues) {
      const node = nodeAt(source.root, issue.path);
      const text = node.kind === 'scalar' ? source.variables.get(node) : undefined;
      if (node.kind !== 'scalar' || text === undefined || issue.code !== 'invalid_type') continue;
      if (issue.expected !== 'string') continue;
      node.value = text;
      source.variables.delete(node);
      retry = true;
    }
    if (retry) continue;
    const { value, faulty } = withoutFaults(configSchema, toValue(source.root));
    const issues = [...unsetProblems, ...firstOfEach(result.error.issues, source)];
    return { value, issues, faulty: [...unset, ...faulty] };
  }
}

/** Of a file that is no config at all, each key is unknown. */
const MOST_HINTS = 200;

/** The first problem of each value; none for a value whose variable is not set, which is a problem already. */
function firstOfEach(issues: readonly z.core.$ZodIssue[], source: Source): Problem[] {
  const hints = { left: MOST_HINTS };
  const seen = new Set<string>();
  return issues.flatMap((issue) => {
    const key = JSON.stringify(issue.path);
    const again = issue.code !== 'unrecognized_keys' && seen.has(key);
    seen.add(key);
    return again || source.unset.has(nodeAt(source.root, issue.path))
      ? []
      : problemsOf(issue, source.root, hints);
  });
}

function withHostname(config: Config, isSet: IsSet, machine: string): Config {
  return isSet(['hostname']) || !/^[A-Za-z0-9._-]{1,255}$/.test(machine)
    ? config
    : { ...config, hostname: machine };
}

/** CRAM-MD5 needs the password itself, and files and tables mostly hold hashes: clients that prefer it would be refused. */
function withServableMechanisms(config: Config, isSet: IsSet): Config {
  const { auth } = config;
  const hashes = auth.backends.some(({ type }) => type === 'file' || type === 'database');
  if (!hashes || isSet(['auth', 'mechanisms'])) return config;
  return { ...config, auth: { ...auth, mechanisms: auth.mechanisms.filter((one) => one !== 'CRAM-MD5') } };
}

/** No transaction outlives a lease: a time that somebody set was checked, one that nobody set follows. */
function withinLease(config: Config): Config {
  const { database, lease_ms: leaseMs } = config;
  const within = <S extends { query_timeout_ms: number }>(server: S): S => ({
    ...server,
    query_timeout_ms: Math.min(server.query_timeout_ms, leaseMs - 1),
  });
  if (database.driver === 'mysql') return { ...config, database: within(database) };
  if (database.driver !== 'mysql_distributed') return config;
  return { ...config, database: { ...database, shards: database.shards.map(within) } };
}

function databasePaths(database: Config['database'], below: (path: string) => string): Config['database'] {
  const withCaFile = <T extends { tls_ca_file: string | null }>(server: T): T =>
    server.tls_ca_file === null ? server : { ...server, tls_ca_file: below(server.tls_ca_file) };
  switch (database.driver) {
    case 'sqlite':
      return database.path === ':memory:' ? database : { ...database, path: below(database.path) };
    case 'mysql':
      return withCaFile(database);
    case 'mysql_distributed':
      return { ...database, shards: database.shards.map(withCaFile) };
  }
}

/** data_dir counts from the folder of the file that sets it. */
function dataDirPath(dataDir: string, root: Node, file: string): string {
  const setIn = has(root, ['data_dir']) ? nodeAt(root, ['data_dir']).place.file : file;
  return resolve(dirname(setIn), dataDir);
}

/** Every path but data_dir counts from data_dir. */
function resolvePaths(config: Config, root: Node, file: string): Config {
  const dataDir = dataDirPath(config.data_dir, root, file);
  const below = (path: string): string => resolve(dataDir, path);
  const { auth, database, delivery, storage, scheduler, log, replies } = config;
  const hop = <Hop extends NextHop>(one: Hop): Hop => withTokenFile(one, below);
  const caFile = scheduler.redis.tls_ca_file;
  const { secrets_file: secretsFile } = config.return_path;
  return {
    ...config,
    data_dir: dataDir,
    tls: {
      ...withFiles(config.tls, below),
      certificates: config.tls.certificates.map((one) => withFiles(one, below)),
    },
    listeners: config.listeners.map((l) => (l.path === undefined ? l : { ...l, path: below(l.path) })),
    journal: { ...config.journal, path: below(config.journal.path) },
    auth: {
      ...auth,
      path: below(auth.path),
      backends: auth.backends.map((b) => ({
        ...b,
        ...(b.path === undefined ? {} : { path: below(b.path) }),
        ...(b.config_dir === undefined ? {} : { config_dir: below(b.config_dir) }),
      })),
    },
    delivery: {
      ...delivery,
      tls: withFiles(delivery.tls, below),
      ...(delivery.smarthost === undefined ? {} : { smarthost: hop(delivery.smarthost) }),
      routes: Object.fromEntries(Object.entries(delivery.routes).map(([domain, one]) => [domain, hop(one)])),
    },
    database: databasePaths(database, below),
    storage: {
      ...storage,
      local: { ...storage.local, path: below(storage.local.path) },
      distributed: { ...storage.distributed, roots: storage.distributed.roots.map(below) },
    },
    shaping: shapingPaths(config.shaping, below),
    dkim: { ...config.dkim, keys: config.dkim.keys.map((key) => ({ ...key, file: below(key.file) })) },
    scheduler: { ...scheduler, redis: { ...scheduler.redis, tls_ca_file: caFile && below(caFile) } },
    replies: { ...replies, file: replies.file && below(replies.file) },
    return_path: { ...config.return_path, secrets_file: secretsFile && below(secretsFile) },
    http: {
      ...config.http,
      tls: withFiles(config.http.tls, below),
      tokens_file: below(config.http.tokens_file),
    },
    log: { ...log, file: log.file === null ? null : below(log.file) },
  };
}

/** The section with the path of every `…_file` made absolute. */
function withFiles<T extends object>(section: T, absolute: (path: string) => string): T {
  const files = Object.entries(section).filter(
    ([key, value]) => key.endsWith('_file') && typeof value === 'string',
  );
  return { ...section, ...Object.fromEntries(files.map(([key, value]) => [key, absolute(value as string)])) };
}

type NextHop = NonNullable<Config['delivery']['smarthost']>;

function withTokenFile<Hop extends NextHop>(hop: Hop, below: (path: string) => string): Hop {
  const file = hop.auth?.access_token_file;
  return file === undefined ? hop : { ...hop, auth: { ...hop.auth, access_token_file: below(file) } };
}
