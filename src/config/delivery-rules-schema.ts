/** Rules on what peers refuse (docs/rules.md): as they stand in the config under `rules`, and in files for `shaping replay`. */
// biome-ignore-all format: one option a line reads as the table it is.
import { z } from 'zod';

const live = { live: true } as const;
const DAY_MS = 86_400_000;
const names = (what: string) => z.array(z.string().min(1).max(253)).max(1000).optional().describe(what).meta(live);

/** Rules at most. */
export const MAX_RULES = 1000;
export const RULE_ACTIONS = ['pause', 'set_limit', 'bounce', 'move_pool', 'webhook', 'alert'] as const;
export const RULE_TARGETS = ['source', 'provider', 'tenant', 'campaign', 'from_domain'] as const;

const match = z.strictObject({
  classes: names('Classes of replies, one of which it must be (docs/replies.md).'),
  scope: names('Scopes of replies.'),
  reply: z.string().min(1).max(1000).optional().describe('A pattern (RE2, either case) that occurs in the text of the reply.').meta(live),
  code: names('Codes: `421`, `45x`, `5xx`.'),
  enhanced: names('Enhanced codes; `*` stands for any text: `4.7.*`.'),
  providers: names('Providers or sites; `*` stands for any text.'),
  sources: names('Sources; `*` stands for any text.'),
  tenants: names('Tenants; `*` stands for any text.'),
  campaigns: names('Campaigns; `*` stands for any text.'),
});

const threshold = z.strictObject({
  count: z.int().min(1).max(1_000_000).optional().describe('So many replies that match, within the window. Either `count` or `ratio`.').meta(live),
  ratio: z.number().gt(0).max(1).optional().describe('Such a share of what `of` says, within the window.').meta(live),
  of: z.enum(['attempts', 'refusals']).default('attempts').describe('What the ratio is of: all that peers answered, or what they refused.').meta(live),
  min_count: z.int().min(1).max(1_000_000).default(100).describe('Fewer of them say nothing of a ratio.').meta(live),
  window_s: z.int().min(1).max(604_800).default(300).describe('Length of the sliding window.').meta(live),
});

export const deliveryRule = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9 _.-]{0,62}[A-Za-z0-9_.-])?$/, 'a name of letters, digits, blanks and `_ . -`').describe('Name in events, log and `queue why`.').meta(live),
  match: match.default({}).describe('What counts: replies for which all of this holds; without any of it, every refusal. What the relay itself says never counts.').meta(live),
  threshold: threshold.describe('How many make it act.').meta(live),
  action: z.enum(RULE_ACTIONS).describe('pause: mail of the target waits. set_limit: it goes at `messages_per_s` at most. bounce: it fails, with a report to its sender that names the rule. move_pool: it leaves by `pool`. webhook: `url` is told. alert: only the event and a warning in the log, which come with each of these. Each at the provider or site that answered, and for `for_ms`.').meta(live),
  target: z.enum(RULE_TARGETS).default('source').describe('What is counted and acted upon, at each provider or site for itself.').meta(live),
  for_ms: z.int().min(1000).max(30 * DAY_MS).default(3_600_000).describe('How long.').meta(live),
  cooldown_ms: z.int().min(0).max(30 * DAY_MS).default(600_000).describe('After that it does not act again on the same target for so long.').meta(live),
  messages_per_s: z.number().gt(0).max(1_000_000).optional().describe('For set_limit.').meta(live),
  pool: z.string().min(1).max(64).optional().describe('For move_pool: one of egress.pools.').meta(live),
  url: z.string().min(1).max(2048).optional().describe('For webhook: an http or https address that is sent a JSON object by POST. Redirects are not followed.').meta({ ...live, secret: true }),
  allow_private: z.boolean().default(false).describe('For webhook: `url` may lead to a loopback or private address.').meta(live),
});

export type DeliveryRule = z.output<typeof deliveryRule>;
export type RuleTarget = DeliveryRule['target'];

/** What the schema cannot say. @returns what is wrong with a rule, with the key below it. */
export function ruleProblems({ threshold: { count, ratio }, action, messages_per_s, pool, url, allow_private }: DeliveryRule): [string[], string][] {
  const found: [string[], string][] = [];
  if ((count === undefined) === (ratio === undefined))
    found.push([['threshold'], 'exactly one of "count" and "ratio" says when it acts']);
  if ((action === 'set_limit') !== (messages_per_s !== undefined))
    found.push([['messages_per_s'], action === 'set_limit' ? 'set_limit needs it' : `"${action}" has no use for it`]);
  if ((action === 'move_pool') !== (pool !== undefined))
    found.push([['pool'], action === 'move_pool' ? 'move_pool needs it' : `"${action}" has no use for it`]);
  if ((action === 'webhook') !== (url !== undefined))
    found.push([['url'], action === 'webhook' ? 'webhook needs it' : `"${action}" has no use for it`]);
  else if (url !== undefined && !isWebAddress(url))
    found.push([['url'], 'must be an http or https address without user and password']);
  if (allow_private && action !== 'webhook')
    found.push([['allow_private'], `"${action}" has no use for it`]);
  return found;
}

function isWebAddress(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && ['http:', 'https:'].includes(url.protocol) && url.username + url.password === '';
}
