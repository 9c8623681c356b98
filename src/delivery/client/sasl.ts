/** The messages of each SASL mechanism on the client side. Which mechanism is used, and what replies mean, is in auth.ts. */
import { randomBytes } from 'node:crypto';
import type { CLIENT_MECHANISMS } from '../../config/auth-schema.ts';
import { cramDigest } from '../../protocol/sasl/cram-md5.ts';
import { plainMessage, xoauth2Message } from '../../protocol/sasl/plain.ts';
import { type ChannelBinding, ScramClient } from '../../protocol/sasl/scram.ts';

export type ClientMechanism = (typeof CLIENT_MECHANISMS)[number];
/** Names of mechanisms in AUTH. -PLUS is SCRAM-SHA-256 bound to its TLS connection. */
export type OfferedMechanism = ClientMechanism | typeof SCRAM_PLUS;
export const SCRAM_PLUS = 'SCRAM-SHA-256-PLUS';

export interface Credentials {
  username: string;
  password: string | null;
  accessToken: string | null;
  /** See TlsFacts. */
  channelBindings: readonly ChannelBinding[];
  /** Whether the peer offers -PLUS. */
  offersPlus: boolean;
}

export interface ClientExchange {
  readonly mechanism: OfferedMechanism;
  /** The initial response, which may be sent with AUTH; null: the peer speaks first. */
  readonly initial: Buffer | null;
  /** The response to a challenge; null when the peer does not keep to the mechanism. */
  respond(challenge: Buffer): Buffer | null | Promise<Buffer | null>;
  /** Whether responses depend on challenges; if not, challenges are not even decoded. */
  readonly reads: boolean;
  /** Whether a 235 may end the exchange now: in SCRAM the peer must have proven itself before. */
  readonly complete: boolean;
}

/** Whether the mechanism sends the password itself, or a token that is as good. */
export function isReadable(mechanism: OfferedMechanism): boolean {
  return mechanism === 'PLAIN' || mechanism === 'LOGIN' || mechanism === 'XOAUTH2';
}

/** The exchange of a mechanism; null when the credentials lack what it needs. */
export function clientExchange(mechanism: OfferedMechanism, credentials: Credentials): ClientExchange | null {
  const { username, password, accessToken, channelBindings, offersPlus } = credentials;
  const channel = channelBindings[0] ?? null;
  if (mechanism === 'XOAUTH2') return accessToken === null ? null : xoauth2(username, accessToken);
  if (password === null) return null;
  switch (mechanism) {
    case 'PLAIN':
      return sequence(mechanism, plainMessage(username, password), []);
    case 'LOGIN':
      return sequence(mechanism, null, [Buffer.from(username), Buffer.from(password)]);
    case 'CRAM-MD5':
      return cram(username, password);
    case SCRAM_PLUS:
      return channel === null ? null : scram(mechanism, username, password, channel);
    case 'SCRAM-SHA-256':
      return scram(mechanism, username, password, channel === null || offersPlus ? null : 'unoffered');
  }
}

/** An exchange of responses that do not depend on what the peer says. */
function sequence(mechanism: ClientMechanism, initial: Buffer | null, responses: Buffer[]): ClientExchange {
  return { mechanism, initial, respond: () => responses.shift() ?? null, reads: false, complete: true };
}

/** The peer explains a refusal in a challenge; after an empty response it sends the reply. */
function xoauth2(username: string, accessToken: string): ClientExchange {
  const initial = xoauth2Message(username, accessToken);
  return sequence('XOAUTH2', initial, [Buffer.alloc(0)]);
}

function cram(username: string, password: string): ClientExchange {
  let answered = false;
  return {
    mechanism: 'CRAM-MD5',
    initial: null,
    reads: true,
    respond(challenge) {
      if (answered) return null;
      answered = true;
      const digest = cramDigest(challenge.toString('utf8'), password).toString('hex');
      return Buffer.from(`${username} ${digest}`);
    },
    complete: true,
  };
}

function scram(
  mechanism: OfferedMechanism,
  username: string,
  password: string,
  channel: ChannelBinding | 'unoffered' | null,
): ClientExchange {
  const client = new ScramClient(username, password, randomBytes(18).toString('base64'), channel);
  let step = 0;
  const exchange = {
    mechanism,
    initial: Buffer.from(client.first),
    reads: true,
    complete: false,
    async respond(challenge: Buffer): Promise<Buffer | null> {
      step++;
      const text = challenge.toString('utf8');
      if (step === 1) {
        const final = await client.final(text);
        return final === null ? null : Buffer.from(final);
      }
      exchange.complete = step === 2 && client.isServer(text);
      return exchange.complete ? Buffer.alloc(0) : null;
    },
  };
  return exchange;
}
