/** Whether mail could leave from the addresses of a config. */
import { isIP } from 'node:net';
import { isLocalAddress } from '../base/local-address.ts';
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { ifSound } from '../config/unsound.ts';

/** A pool does without a source whose address is elsewhere, as nodes that share a config do; `source_address` has no other. */
export async function checkSourceAddresses(
  { delivery, egress }: Config,
  problem: Say,
  warning: Say,
): Promise<void> {
  const look = (
    path: Parameters<Say>[0],
    address: string | null | undefined,
    say: Say,
    mend: string,
  ): Promise<void> =>
    ifSound(async () => {
      if (address == null || isIP(address) === 0 || (await isLocalAddress(address))) return;
      say(path, `no interface of this machine has the address ${address}`, mend);
    });
  await ifSound(() =>
    look(['delivery', 'source_address'], delivery.source_address, problem, 'write one that it has'),
  );
  for (const [i, source] of egress.sources.entries())
    await ifSound(async () => {
      // What leaves from a proxy of this kind has its address there.
      if (source.proxy?.startsWith('haproxy:') === true) return;
      await look(
        ['egress', 'sources', i, 'address'],
        source.address,
        warning,
        'nothing leaves from this source here',
      );
    });
}
