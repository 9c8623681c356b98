/** What tells web addresses of the operator that a rule acted. Part of the composition root. */
import type { Log } from '../base/log.ts';
import { post } from '../base/web-post.ts';
import type { Config } from '../config/schema.ts';
import { RuleHooks } from '../report/rule-hooks.ts';
import { addressToCall } from './address-to-call.ts';
import { currentDns } from './current-dns.ts';

export function openRuleHooks(current: () => Config, log: Log): RuleHooks {
  const dns = currentDns(current);
  return new RuleHooks({
    post,
    addressOf: (host, allowPrivate) => addressToCall(dns, host, allowPrivate),
    setTimer: (ms, fire) => void setTimeout(fire, ms).unref(),
    // The path may hold what only the operator is to know.
    failed: (url, error) => log.warn('rule.webhook_failed', { peer_host: new URL(url).host, error }),
  });
}
