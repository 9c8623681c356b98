/** Ways to spoil the program, one line each, that the simulation must notice (mutations.test.ts). */
export interface Mutation {
  /** Under src. */
  file: string;
  /** Stands there exactly once. */
  line: string;
  becomes: string;
}

export const MUTATIONS: Record<string, Mutation> = {
  'a result is settled whatever its fence': {
    file: 'database/mysql/settle.ts',
    line: ' || row.fence !== settlement.fence) return false;',
    becomes: ') return false;',
  },
  'content goes out without a look at the lease': {
    file: 'scheduler/leases.ts',
    line: '  if (job.leaseEpoch !== Atomics.load(gauges, leaseEpochOf(shard))) return false;',
    becomes: '  if (nowMs > 0) return true;',
  },
  'leases that lapsed are good again after the next look': {
    file: 'scheduler/leases.ts',
    line: '    Atomics.add(this.#gauges, leaseEpochOf(leases.shard), 1);',
    becomes: '',
  },
  'leases have no margin, and half of one too much': {
    file: 'scheduler/leases.ts',
    line: 'const MARGIN_SHARE = 0.05;',
    becomes: 'const MARGIN_SHARE = -0.5;',
  },
  'recover gives back rows that other nodes are sending': {
    file: 'database/mysql/mysql-database.ts',
    line: 'found.startsWith(node) && !found.startsWith(owner)',
    becomes: '!found.startsWith(owner)',
  },
  'renew does not extend': {
    file: 'database/mysql/leases.ts',
    line: 'rows.slice(at, at + RENEW_ROWS), leaseUntilMs, owner);',
    becomes: 'rows.slice(at, at + RENEW_ROWS), 0, owner);',
  },
  'a claim takes rows whose lease is not over': {
    file: 'database/mysql/claim.ts',
    line: 'WHERE destination = ? AND due_at <= ?\n',
    becomes: 'WHERE destination = ? AND due_at <= ? + 1500\n',
  },
  'a claim keeps the fence': {
    file: 'database/mysql/claim.ts',
    line: 'fence = fence + 1, lease_owner',
    becomes: 'lease_owner',
  },
  'the poll overlooks leases that ended': {
    file: 'database/mysql/leases.ts',
    line: 'FROM mail_outbox\n     GROUP BY',
    becomes: "FROM mail_outbox WHERE state <> 'SENDING'\n     GROUP BY",
  },
  'a commit in doubt is taken for one that failed': {
    file: 'database/mysql/transaction.ts',
    line: 'return rows[0]?.token === name.token;',
    becomes: 'return false;',
  },
  'a commit in doubt is taken for one that happened': {
    file: 'database/mysql/transaction.ts',
    line: 'return rows[0]?.token === name.token;',
    becomes: 'return true;',
  },
  'transactions are none': {
    file: 'database/mysql/connection.ts',
    line: 'autocommit = 0',
    becomes: 'autocommit = 1',
  },
  'a DSN is kept though its settlement was rejected': {
    file: 'database/mysql/mysql-database.ts',
    line: 'if (settlement !== undefined && !accepted[settlement]) {',
    becomes: 'if (settlement !== undefined && accepted.length === 0) {',
  },
  'settlements of a commit that failed are forgotten': {
    file: 'persistence/group-commit.ts',
    line: '    this.#queue.putBack(batch);',
    becomes: '',
  },
  'a settled row stays among those being sent': {
    file: 'relay.ts',
    line: '    this.#leases.drop(result);',
    becomes: '',
  },
  'a rejected result is told as if it counted': {
    file: 'relay.ts',
    line: '    if (accepted) this.#events.attempt(result);',
    becomes: '    if (accepted || true) this.#events.attempt(result);',
  },
  'a row claimed while it is being sent is sent again': {
    file: 'scheduler/leases.ts',
    line: '      held.newFence = fence;\n      return false;',
    becomes: '      held.newFence = fence;\n      return true;',
  },
  'a shard that failed is never tried again': {
    file: 'database/shard-health.ts',
    line: 'if (!this.#probing && nowMs >= this.#retryAtMs)',
    becomes: 'if (!this.#probing && nowMs < 0)',
  },
  'places with delivery are not given back': {
    file: 'scheduler/embedded.ts',
    line: '    place.inFlight--;\n    this.#inFlight--;\n    this.#forget(place);',
    becomes: '    place.inFlight--;\n    this.#forget(place);',
  },
};
