/**
 * Scheduling keys that only an operator's action gives to mail: `via:HOST:PORT` goes to that next hop, whatever its domains
 * are; `fail:DESTINATION` ends without an attempt, with a report. No domain has a colon, and `destinationOf` makes sure of
 * it: nobody chooses a next hop by an address.
 */
import { domainForm, isDomainForm } from '../base/domain.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { printable } from '../base/printable.ts';

const VIA = 'via:';
const FAIL = 'fail:';
const SMTP_PORT = 25;

/** Most characters of what an operator says of mail that fails. */
export const MAX_FAIL_TEXT = 200;

/** Whether it can stand in a report: one line, nothing that steers a terminal. */
export const isFailText = (text: string): boolean =>
  text.length <= MAX_FAIL_TEXT && text.isWellFormed() && printable(text) === text;

export const isOperatorKey = (key: string): boolean => key.startsWith(VIA) || key.startsWith(FAIL);

/** Whether mail of this key is ended, and not sent. */
export const isFailKey = (key: string): boolean => key.startsWith(FAIL);

/** The key under which mail of a destination is ended. */
export const failKey = (destination: string): string =>
  isFailKey(destination) ? destination : `${FAIL}${destination}`;

/** The destination as operators know it: of mail that is being ended, the one it had. */
export const shownDestination = (key: string): string => (isFailKey(key) ? key.slice(FAIL.length) : key);

export interface NamedHop {
  /** A name, or an address without brackets. */
  host: string;
  port: number;
}

/** The key for a next hop as an operator writes it: host or address, with a port or without, or the key; null when it is none. */
export function viaKey(text: string): string | null {
  const written = text.replace(/^via:(?=.*:)/, '');
  const [, bracketed, plain, digits] = /^(?:\[([^[\]]*)\]|([^[\]:]*))(?::(\d{1,5}))?$/.exec(written) ?? [];
  const port = digits === undefined ? SMTP_PORT : Number(digits);
  const host = hostForm(bracketed ?? plain ?? written, bracketed !== undefined);
  return host === null || port < 1 || port > 65_535 ? null : `${VIA}${host}:${port}`;
}

/** @param isAddress no name is meant. */
function hostForm(written: string, isAddress: boolean): string | null {
  const ip = parseIp(written.replace(/^ipv6:/i, ''));
  if (ip !== null) {
    const address = formatIp(ip);
    return address.includes(':') ? `[${address}]` : address;
  }
  const name = isAddress ? null : domainForm(written);
  return name !== null && isDomainForm(name) ? name : null;
}

const RULE_HOP = 'rule-hop:';

/**
 * The key of connections to a next hop that a rule of `egress.routing` names. It is no destination: mail keeps the one it has,
 * and goes another way when the rules change.
 */
export const ruleHopKey = ({ host, port }: NamedHop): string => `${RULE_HOP}${host.toLowerCase()}:${port}`;

export const isRuleHopKey = (key: string): boolean => key.startsWith(RULE_HOP);

/** The next hop of such a key; null when it is of another kind. */
export function hopOfKey(key: string): NamedHop | null {
  if (!key.startsWith(VIA)) return null;
  const colon = key.lastIndexOf(':');
  return {
    host: key.slice(VIA.length, colon).replace(/^\[(.*)\]$/, '$1'),
    port: Number(key.slice(colon + 1)),
  };
}
