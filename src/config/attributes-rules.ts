/** What the schema cannot say of attributes. Pure. */
import { literalOf } from '../base/glob.ts';
import { parseNetwork } from '../base/ip.ts';
import { isPlainAddress } from './dane-rules.ts';
import { listenerName } from './listener-name.ts';
import { isEverybody, networkFault } from './networks.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

/** Fields that mail needs, or that say where it has been. */
const NEVER =
  /^(?:from|sender|reply-to|to|cc|bcc|subject|date|message-id|received|return-path|mime-version|content-.*|dkim-signature|in-reply-to|references)$/;

export function checkAttributes(config: Config, problem: Say, warning: Say): void {
  checkFields(config, problem);
  checkAdded(config, problem, warning);
  for (const [i, text] of config.attributes.trusted_networks.entries()) {
    const fault = networkFault(text);
    const network = parseNetwork(text);
    const path = ['attributes', 'trusted_networks', i];
    if (fault !== null) problem(path, fault.message, fault.mend);
    else if (network !== null && isEverybody(network))
      problem(path, `"${text}" is so much of the world that anybody could claim to be any tenant`);
  }
  const names = config.tenants.map(({ name }) => name);
  for (const [i, name] of names.entries())
    if (names.indexOf(name) < i)
      problem(['tenants', i, 'name'], `is the name of tenants[${names.indexOf(name)}] too`);
  const listeners = config.listeners.map((one) => listenerName(one).toLowerCase());
  for (const [i, { match, set, strangers }] of config.attributes.rules.entries()) {
    const path = ['attributes', 'rules', i];
    checkStrangers(config, match, strangers, path, problem, warning);
    if (Object.values(set).every((value) => value === undefined)) problem([...path, 'set'], 'sets nothing');
    if (set.tenant !== undefined && names.length > 0 && !names.includes(set.tenant))
      problem([...path, 'set', 'tenant'], `"${set.tenant}" is none of tenants`);
    for (const pattern of [match.listener ?? []].flat()) {
      const literal = literalOf(pattern);
      if (literal !== null && !listeners.includes(literal))
        problem([...path, 'match', 'listener'], `no listener is named "${pattern}"`);
    }
  }
}

type Match = Config['attributes']['rules'][number]['match'];

/** A rule by domain alone holds for clients that are believed, unless it says otherwise. */
function checkStrangers(
  { attributes: { trust_authenticated, trusted_networks }, listeners }: Config,
  { user, listener, sender_domain: sender, from_domain: from }: Match,
  strangers: boolean,
  path: (string | number)[],
  problem: Say,
  warning: Say,
): void {
  const byDomain = user === undefined && listener === undefined && (sender ?? from) !== undefined;
  if (strangers && !byDomain)
    problem([...path, 'strangers'], 'has no effect: the rule is not by sender_domain or from_domain alone');
  else if (strangers) warning([...path, 'strangers'], 'gives what it sets to anybody who writes the domain');
  const believesNobody =
    !trust_authenticated &&
    trusted_networks.length === 0 &&
    listeners.every(({ path: unix }) => unix === undefined);
  if (byDomain && !strangers && believesNobody)
    warning(
      path,
      'holds for no mail: a rule by domain is for clients that attributes.trust_authenticated or trusted_networks believe',
    );
}

const PLACES = ['{tenant}', '{campaign}', '{class}'];

function checkAdded(
  { added_headers: { list_id: list, cfbl_address: address }, dkim }: Config,
  problem: Say,
  warning: Say,
): void {
  if (list !== undefined) {
    const unknown = list.match(/\{[^}]*\}?/g)?.find((place) => !PLACES.includes(place));
    const path = ['added_headers', 'list_id'];
    if (unknown !== undefined) problem(path, `has "${unknown}"`, `what is put in is ${PLACES.join(', ')}`);
    else if (!/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/i.test(list.replaceAll(/\{[^{}]*\}/g, 'x')))
      problem(path, `must be a name such as {campaign}.lists.example.com, is "${list}"`);
  }
  if (address !== undefined && !isPlainAddress(address))
    problem(
      ['added_headers', 'cfbl_address'],
      `must be an address such as complaints@example.com, is "${address}"`,
    );
  else if (address !== undefined && (dkim.keys.length === 0 || !dkim.enabled))
    warning(
      ['added_headers', 'cfbl_address'],
      'receivers look at it in signed mail only, and nothing signs (dkim.keys)',
    );
}

function checkFields({ attributes }: Config, problem: Say): void {
  const seen = new Map<string, string>();
  for (const [attribute, name] of Object.entries(attributes.headers)) {
    const key = name.toLowerCase();
    const path = ['attributes', 'headers', attribute];
    const other = seen.get(key);
    if (NEVER.test(key)) problem(path, `"${name}" cannot be it: it is taken out of every message`);
    else if (key !== '' && other !== undefined) problem(path, `is attributes.headers.${other} too`);
    seen.set(key, attribute);
  }
}
