/** Who may ask what: by which name the relay is called, which token comes along, how often it comes. */
import type { FastifyRequest } from 'fastify';
import { clientNetwork, formatNetwork, type NetworkSet, parseIp } from '../base/ip.ts';
import type { Config } from '../config/schema.ts';
import type { Problem } from './problem.ts';
import { RequestRates } from './request-rates.ts';
import { isOfToken, mayDo, type Role, type Token, tokenId } from './token.ts';
import type { TokenBook } from './token-file.ts';

/**
 * What a route needs: a role, of one bound to tenants too where it tells them their own only, or to come from one of these
 * networks without a token; or nothing.
 */
export type Needs = { role: Role | 'any'; ofTenants?: true; anonymous?: NetworkSet } | { open: true };

const LOCAL_NAMES = ['localhost', '127.0.0.1', '::1'];

export class Access {
  readonly #tokens: TokenBook;
  readonly #names: ReadonlySet<string>;
  readonly #rates: RequestRates;
  readonly #strangers: RequestRates;

  constructor({ http, hostname }: Config, tokens: TokenBook) {
    this.#tokens = tokens;
    const names = [...LOCAL_NAMES, http.host, hostname, ...http.allowed_hosts];
    this.#names = new Set(names.map(nameForm));
    this.#rates = new RequestRates(http.requests_per_min);
    this.#strangers = new RequestRates(http.requests_per_min);
  }

  /** @returns the token that lets the request in (null: the route is open), or why it is refused. */
  check(
    request: FastifyRequest,
    needs: Needs,
    nowMs: number,
    steadyMs: number,
  ): { token: Token | null } | { problem: Problem } {
    if (!this.#isOurName(request))
      return refused(421, 'host_not_allowed', 'this relay does not go by the name in Host');
    const ip = clientIp(request);
    if ('open' in needs) return { token: null };
    const mayBeAnybody = request.headers.authorization === undefined && needs.anonymous?.has(ip) === true;
    let found = this.#tokenOf(request, ip, nowMs);
    if (found === null) {
      const network = ip === null ? UNNAMED : formatNetwork(clientNetwork(ip));
      const waitS = this.#strangers.take(network, steadyMs);
      if (waitS > 0) return tooMany(waitS);
      if (mayBeAnybody) return { token: null };
      // It may have been made just now.
      found = this.#tokens.reread() ? this.#tokenOf(request, ip, nowMs) : null;
      if (found === null) return UNKNOWN;
    }
    const waitS = this.#rates.take(found.id, steadyMs);
    if (waitS > 0) return tooMany(waitS);
    const { role, ofTenants } = needs;
    if (found.tenants.length > 0 && ofTenants !== true)
      return refused(403, 'tenant_token', 'this is about all tenants, and the token is good for some');
    if (role === 'any' || mayDo(found.role, role)) return { token: found };
    const detail = `this needs a token with the role ${role}`;
    return refused(403, 'role_missing', detail, { needed_role: role });
  }

  /** A page in somebody's browser that reaches us by a name of its own has that name in Host (DNS rebinding). */
  #isOurName({ headers: { host = '' }, raw }: FastifyRequest): boolean {
    const name = nameForm(host.replace(/:\d{0,5}$/, ''));
    return this.#names.has(name) || (name !== '' && name === nameForm(raw.socket.localAddress ?? ''));
  }

  #tokenOf(
    { headers: { authorization = '' } }: FastifyRequest,
    ip: ReturnType<typeof parseIp>,
    nowMs: number,
  ): Token | null {
    const [, text = ''] = /^bearer +(\S{1,128}) *$/i.exec(authorization) ?? [];
    const known = this.#tokens.find(tokenId(text) ?? '');
    if (known === undefined || !isOfToken(known.token, text) || nowMs >= known.endsAtMs) return null;
    return known.networks === null || known.networks.has(ip) ? known.token : null;
  }
}

/** Clients of whom a proxy says nothing that is an address count as one. */
const UNNAMED = '';

/** Some proxies add the client's port. */
const clientIp = ({ ip }: FastifyRequest): ReturnType<typeof parseIp> =>
  parseIp(ip.replace(/^([\d.]+):\d{1,5}$/, '$1').replace(/^\[([^\]]*)\](?::\d{1,5})?$/, '$1'));

/** Names are compared in small letters, without the brackets of IPv6, IPv4 as IPv4. */
function nameForm(name: string): string {
  return name
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/^::ffff:(?=\d+\.)/, '')
    .replace(/\.$/, '');
}

const UNKNOWN = {
  problem: {
    status: 401,
    code: 'token_needed',
    detail: 'send a good token: Authorization: Bearer pr_…',
    headers: { 'WWW-Authenticate': 'Bearer' },
  },
} as const satisfies { problem: Problem };

function refused(
  status: number,
  code: string,
  detail: string,
  more: Record<string, unknown> = {},
): { problem: Problem } {
  return { problem: { status, code, detail, more } };
}

function tooMany(waitS: number): { problem: Problem } {
  const detail = `too many requests; the next one in ${waitS} s`;
  return {
    problem: { status: 429, code: 'too_many_requests', detail, headers: { 'Retry-After': `${waitS}` } },
  };
}
