/** What the schema cannot say of return paths. Pure. */
import { domainKey, isDomainForm } from '../base/domain.ts';
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

export function checkReturnPath(
  { return_path, hostname, relay_domains }: Config,
  problem: Say,
  warning: Say,
): void {
  const { domain, secrets_file } = return_path;
  if (domain === '') {
    if (secrets_file !== '')
      warning(['return_path', 'secrets_file'], 'does nothing without return_path.domain');
    return;
  }
  if (!isDomainForm(domain)) problem(['return_path', 'domain'], `"${domain}" is no domain`);
  if (secrets_file === '') problem(['return_path', 'secrets_file'], 'is needed with return_path.domain');
  if (domain === domainKey(hostname))
    problem(
      ['return_path', 'domain'],
      'is the hostname, whose own mail would not come in any more',
      `take a domain for it alone, such as bounce.${domain}`,
    );
  else if (relay_domains.some((one) => domainKey(one) === domain))
    warning(
      ['return_path', 'domain'],
      'is in relay_domains, too: mail to it is read as reports, and not relayed',
    );
}
