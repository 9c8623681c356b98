/** A relay with the HTTP plane, and clients of it. */
import type { TestContext } from 'node:test';
import { RelayFixture, type Settings } from '../support/relay-fixture.ts';

export interface Answer {
  status: number;
  headers: Headers;
  body: unknown;
}

export interface WithPlane {
  relay: RelayFixture;
  /** As http://127.0.0.1:8025 */
  url: string;
  /** Makes a token. @param words as `--role viewer`; the name is given. */
  token(...words: string[]): Promise<string>;
  get(path: string, token?: string, init?: RequestInit): Promise<Answer>;
}

export async function withPlane(
  t: TestContext,
  http: Settings = {},
  more: Settings = {},
): Promise<WithPlane> {
  const relay = new RelayFixture({ http: { enabled: true, port: 0, ...http }, ...more });
  t.after(() => relay.destroy());
  const heard = relay.logLine('http.ready', undefined, 30_000);
  await relay.start();
  const url = String((await heard).address);
  return {
    relay,
    url,
    token: async (...words) => {
      const ran = await relay.command('token', 'create', '--name', 'test', ...words);
      if (ran.code !== 0) throw new Error(ran.stderr);
      return ran.stdout.trim();
    },
    get: (path, token, init) => ask(url + path, token, init),
  };
}

export async function ask(url: string, token?: string, init: RequestInit = {}): Promise<Answer> {
  const authorization: Record<string, string> =
    token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(url, {
    ...init,
    headers: { ...authorization, ...(init.headers as Record<string, string> | undefined) },
    signal: AbortSignal.timeout(30_000),
  });
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    body: json && text !== '' ? JSON.parse(text) : text,
  };
}
