/**
 * Which key a refusal slows, and which keys besides its source a message falls under. A reply that names what we cannot see in our mail
 * (whose link it was) is held to the narrowest mail that surely has it; where there is none, the source answers.
 */
import type { AttemptResult } from '../../mail/job.ts';
import type { Verdict } from '../../mail/verdict.ts';
import { domainIn } from '../message-gates.ts';
import type { RateClass } from './controller.ts';
import type { LimitKey } from './keys.ts';

export type ScopedMail = Pick<AttemptResult, 'reversePath' | 'attributes' | 'dkimDomains'>;

/** Values of the keys that a reply of this scope may be about, the narrowest first; '' where the mail has none. */
const SCOPES: Partial<
  Record<
    Verdict['scope'],
    (mail: ScopedMail, netblock: string, reply: string) => [LimitKey['scope'], string][]
  >
> = {
  netblock: (_mail, netblock) => [['netblock', netblock]],
  dkim_domain: ({ dkimDomains = [] }, _netblock, reply) => [['dkim_domain', named(dkimDomains, reply)]],
  return_path_domain: (mail) => [returnPath(mail)],
  sender_domain: (mail) => [returnPath(mail)],
  url_domain: (mail) => [['campaign', mail.attributes?.campaign ?? ''], returnPath(mail)],
  tenant: ({ attributes }) => [['tenant', attributes?.tenant ?? '']],
  campaign: ({ attributes }) => [['campaign', attributes?.campaign ?? '']],
};

const returnPath = ({ reversePath }: ScopedMail): [LimitKey['scope'], string] => [
  'return_path_domain',
  domainIn(reversePath),
];

/** Of several signatures the one that the reply names; else the author’s, which is the first. */
function named(domains: readonly string[], reply: string): string {
  const text = reply.toLowerCase();
  return domains.find((domain) => text.includes(domain)) ?? domains[0] ?? '';
}

/**
 * What a refusal slows; null: nothing but the message itself, or its recipient, which waits anyway.
 * @param source key of the source at the site. @param netblock of that source, '' where its address is not known.
 */
export function keyOfRefusal(
  { scope }: Verdict,
  kind: RateClass,
  mail: ScopedMail,
  source: LimitKey,
  netblock: string,
  reply: string,
): LimitKey | null {
  // Connections are the source's, whatever else the reply names.
  if (kind === 'connection_limit') return source;
  if (scope === 'recipient' || scope === 'message') return null;
  const [narrow, value] = SCOPES[scope]?.(mail, netblock, reply).find(([, value]) => value !== '') ?? [];
  return narrow === undefined || value === undefined ? source : { scope: narrow, value, site: source.site };
}

/** Keys beside the source that a message falls under. */
export function narrowKeys(mail: ScopedMail, netblock: string, site: string): LimitKey[] {
  const { attributes, dkimDomains = [] } = mail;
  const all: [LimitKey['scope'], string][] = [
    ['netblock', netblock],
    returnPath(mail),
    ['tenant', attributes?.tenant ?? ''],
    ['campaign', attributes?.campaign ?? ''],
    ...dkimDomains.map((domain): [LimitKey['scope'], string] => ['dkim_domain', domain]),
  ];
  return all.filter(([, value]) => value !== '').map(([scope, value]) => ({ scope, value, site }));
}
