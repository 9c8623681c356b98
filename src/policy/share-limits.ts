/** How much one client can have of what all share: from the config to the limits of the accounts. */
import type { Config } from '../config/schema.ts';
import { type Accounts, type Limits, NO_LIMIT } from './accounts.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CHUNK_KIB = 64;
/** However small the whole is, a client gets at least so much. */
const LEAST_HANDSHAKES = 4;
const LEAST_ENVELOPE_KIB = 256;

type SharesConfig = Pick<Config, 'content_memory_mb' | 'spill_threshold_bytes' | 'max_message_size'> & {
  policy: Pick<Config['policy'], 'shares'>;
  smtp: Pick<Config['smtp'], 'envelope_memory_mb'>;
  tls: Pick<Config['tls'], 'max_handshakes'>;
};

/** @param sessionThreads of this process. */
export function limitShares(accounts: Accounts, config: SharesConfig, sessionThreads: number): void {
  const { shares } = config.policy;
  const leastContent = Math.ceil(config.spill_threshold_bytes / KIB) + CHUNK_KIB;
  accounts.limit(
    'handshakes',
    limitsOf(shares, config.tls.max_handshakes * sessionThreads, LEAST_HANDSHAKES),
  );
  accounts.limit('content', limitsOf(shares, (config.content_memory_mb * MIB) / KIB, leastContent));
  accounts.limit(
    'envelopes',
    limitsOf(shares, (config.smtp.envelope_memory_mb * MIB) / KIB, LEAST_ENVELOPE_KIB),
  );
}

/**
 * Spill files may take half of what is free above the floor, since what lies in them may be written once more at commit.
 * @param roomBytes free above the floor, less what was taken in and is still to be written.
 * @param spilledKib what lay in spill files when that was measured.
 */
export function limitSpill(
  accounts: Accounts,
  { policy, max_message_size }: SharesConfig,
  roomBytes: number,
  spilledKib: number,
): void {
  const room = Number.isFinite(roomBytes) ? Math.max(0, Math.floor(roomBytes / KIB / 2)) : NO_LIMIT;
  accounts.limit(
    'spill',
    limitsOf(policy.shares, Math.min(NO_LIMIT, spilledKib + room), Math.ceil(max_message_size / KIB)),
  );
}

function limitsOf(shares: Config['policy']['shares'], total: number, least: number): Limits {
  if (!shares.enabled)
    return { total, client: NO_LIMIT, network: NO_LIMIT, trusted: NO_LIMIT, strangers: NO_LIMIT };
  const part = (percent: number): number => Math.max(least, (total * percent) / 100);
  return {
    total,
    client: part(shares.client_percent),
    network: part(shares.network_percent),
    trusted: part(shares.trusted_percent),
    strangers: part(shares.strangers_percent),
  };
}
