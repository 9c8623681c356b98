/** What the schema cannot say of AUTH: rules between its keys. Pure. */
import { isSenderRule } from '../base/domain.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

type Backend = Config['auth']['backends'][number];
type Key = keyof Backend;

/** Keys of each type of backend: those that it needs, and those that it may have. */
const KEYS: Record<Backend['type'], { needs: readonly Key[]; takes: readonly Key[] }> = {
  memory: { needs: ['users'], takes: [] },
  file: { needs: ['path'], takes: [] },
  database: { needs: [], takes: ['path', 'query'] },
  pam: { needs: [], takes: ['service', 'config_dir'] },
  http: { needs: ['url'], takes: ['headers'] },
};
/** Keys that all types have. */
const COMMON: readonly Key[] = ['type', 'timeout_ms'];

export function checkAuth(config: Config, problem: Say, warning: Say): void {
  for (const [i, backend] of config.auth.backends.entries())
    checkBackend(backend, i, config.database.driver, problem);
  for (const [i, { auth }] of config.listeners.entries()) {
    if (auth !== 'off' && config.auth.backends.length === 0)
      problem(['listeners', i, 'auth'], `must be "off" while auth.backends is empty: nobody could log in`);
  }
  for (const [name, { senders }] of Object.entries(config.auth.users))
    checkSenders(senders, ['auth', 'users', name], problem);
  const { mechanisms, backends } = config.auth;
  const onlyPasswords =
    backends.length > 0 && backends.every(({ type }) => type === 'pam' || type === 'http');
  if (onlyPasswords && !mechanisms.includes('PLAIN') && !mechanisms.includes('LOGIN'))
    problem(['auth', 'mechanisms'], 'must have PLAIN or LOGIN: pam and http backends can serve no other');
  checkClient(config, problem, warning);
}

function checkBackend(backend: Backend, i: number, driver: string, problem: Say): void {
  const { needs, takes } = KEYS[backend.type];
  for (const key of needs)
    if (backend[key] === undefined)
      problem(['auth', 'backends', i], `"${key}" is missing: a ${backend.type} backend needs it`);
  for (const key of Object.keys(backend) as Key[])
    if (![...COMMON, ...needs, ...takes].includes(key))
      problem(['auth', 'backends', i, key], `has no meaning with a ${backend.type} backend`);
  if (backend.type === 'database' && backend.path === undefined && driver === 'sqlite')
    problem(['auth', 'backends', i], '"path" is missing: with the sqlite queue a database backend needs it');
  if (backend.query !== undefined && backend.query.split('?').length !== 2)
    problem(['auth', 'backends', i, 'query'], 'must have exactly one "?", for the user name');
  const names = new Set<string>();
  for (const [j, { username, senders }] of (backend.users ?? []).entries()) {
    checkSenders(senders, ['auth', 'backends', i, 'users', j], problem);
    if (names.has(username)) problem(['auth', 'backends', i, 'users', j], `names "${username}" again`);
    names.add(username);
  }
}

/** Senders must be addresses or domains: an entry that matches nothing would silently keep its user from sending. */
function checkSenders(senders: readonly string[] | undefined, user: (string | number)[], problem: Say): void {
  for (const [i, sender] of (senders ?? []).entries())
    if (!isSenderRule(sender))
      problem(
        [...user, 'senders', i],
        'must be an address such as bob@example.com, or a domain such as @example.com',
      );
}

function checkClient({ delivery }: Config, problem: Say, warning: Say): void {
  const hops: [(string | number)[], Config['delivery']['smarthost']][] = [
    [['delivery', 'smarthost', 'auth'], delivery.smarthost],
    ...Object.entries(delivery.routes).map(
      ([domain, hop]): [(string | number)[], Config['delivery']['smarthost']] => [
        ['delivery', 'routes', domain, 'auth'],
        hop,
      ],
    ),
  ];
  for (const [at, hop] of hops) {
    const auth = hop?.auth;
    if (auth === undefined) continue;
    const { password, access_token, access_token_file, mechanisms } = auth;
    const token = access_token ?? access_token_file;
    if (password === undefined && token === undefined)
      problem(at, 'needs "password", "access_token" or "access_token_file"');
    if (access_token !== undefined && access_token_file !== undefined)
      problem(at, 'takes either "access_token" or "access_token_file"');
    const usable = mechanisms.some((one) => (one === 'XOAUTH2' ? token : password) !== undefined);
    if (!usable && (password ?? token) !== undefined)
      problem([...at, 'mechanisms'], 'has none that the given password or token is for');
    if (auth.allow_without_tls)
      warning([...at, 'allow_without_tls'], 'lets the password travel readable where there is no TLS');
  }
}
