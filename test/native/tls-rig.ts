/** TLS for the rig: contexts from certificates made on the spot, pairs of connections of one reactor. */
import { randomBytes } from 'node:crypto';
import { configureTls, makeSelfSigned, TLS_VERIFY, type TlsSetup, tlsSlot } from '../../src/native.ts';
import type { Rig, Seen } from './rig.ts';

export const LOCALHOST = makeSelfSigned(['localhost', '127.0.0.1'], 10, 'ecdsa');
export const SECRET = randomBytes(32);

const DEFAULTS: TlsSetup = {
  server: true,
  certificates: [],
  groups: [],
  minVersion: 'TLSv1.2',
  ciphers: '',
  ciphersuites: '',
  ca: '',
  crl: '',
  caLater: false,
  namesCa: false,
  ticketSecret: SECRET,
  sessionSeconds: 3600,
  resumption: 'full',
};

export const LOCALHOST_PAIR = { chain: LOCALHOST.certificate, key: LOCALHOST.key };

/** A slot with a server's context: the certificate of localhost unless something else is said. */
export function serverSlot(over: Partial<TlsSetup> = {}): number {
  const slot = tlsSlot();
  const groups = [{ certificates: [0], names: [] }];
  configureTls(slot, { ...DEFAULTS, certificates: [LOCALHOST_PAIR], groups, ...over });
  return slot;
}

/** A slot with a client's context, which trusts the certificate of localhost unless something else is said. */
export function clientSlot(over: Partial<TlsSetup> = {}): number {
  const slot = tlsSlot();
  configureTls(slot, { ...DEFAULTS, server: false, ca: LOCALHOST.certificate, ...over });
  return slot;
}

/** Facts of a `secured` event. */
export function facts(event: Seen | undefined): {
  version: string;
  cipher: string;
  resumed: boolean;
  verify: number;
  fingerprint: string;
  binding: string;
  subject: string;
} {
  const [version = '', cipher = '', resumed, verify, fingerprint = '', binding = '', ...subject] = (
    event?.text ?? ''
  ).split(' ');
  return {
    version,
    cipher,
    resumed: resumed === '1',
    verify: Number(verify),
    fingerprint,
    binding,
    subject: subject.join(' '),
  };
}

/** Both ends of a connection of this reactor. */
export async function connected(rig: Rig): Promise<{ client: number; server: number }> {
  const from = rig.seen.length;
  const client = rig.reactor.connect('127.0.0.1', rig.acceptor.port, '', 5000);
  const opened = () => rig.seen.slice(from).filter((event) => event.kind === 'opened');
  await rig.until(() => opened().length === 2);
  return { client, server: opened().find((event) => event.text.startsWith('3 '))?.connection ?? -1 };
}

/** The same with TLS between them. */
export async function secured(
  rig: Rig,
  slots: { server: number; client: number },
  { verify = TLS_VERIFY.trust as number, name = 'localhost', key = '' } = {},
): Promise<{ client: number; server: number; clientFacts: ReturnType<typeof facts> }> {
  const pair = await connected(rig);
  const from = rig.seen.length;
  rig.reactor.secure(pair.server, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.secure(pair.client, slots.client, verify, name, key);
  rig.reactor.flush();
  const done = () =>
    rig.seen
      .slice(from)
      .filter(({ kind }) => kind === 'secured' || kind === 'notSecured')
      .filter(({ connection }) => connection === pair.client || connection === pair.server);
  await rig.until(() => done().length === 2);
  const failed = done().find(({ kind }) => kind === 'notSecured');
  if (failed !== undefined) throw new Error(failed.text);
  return { ...pair, clientFacts: facts(done().find(({ connection }) => connection === pair.client)) };
}
