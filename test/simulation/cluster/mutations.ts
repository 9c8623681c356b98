/** Ways to spoil the program, one line each, that the simulation must notice (mutations.test.ts). */
export interface Mutation {
  /** Number of the scenario whose seeds notice it soonest: one in five mostly, one in forty at least. */
  scenario: number;
  /** One that noticed it when this was written: tried first, as those before it took long. */
  seed?: number;
  /** Under src. */
  file: string;
  /** Stands there exactly once. */
  line: string;
  becomes: string;
}

export const MUTATIONS: Record<string, Mutation> = {
  'a result is settled whatever its fence': {
    scenario: 2,
    file: 'database/mysql/settle.ts',
    line: ' || row.fence !== settlement.fence) return false;',
    becomes: ') return false;',
  },
  'content goes out without a look at the lease': {
    scenario: 2,
    file: 'scheduler/leases.ts',
    line: '  if (job.leaseEpoch !== Atomics.load(gauges, leaseEpochOf(shard))) return false;',
    becomes: '  if (nowMs > 0) return true;',
  },
  'leases that lapsed are good again after the next look': {
    scenario: 2,
    file: 'scheduler/leases.ts',
    line: '    Atomics.add(this.#gauges, leaseEpochOf(leases.shard), 1);',
    becomes: '',
  },
  'leases have no margin, and half of one too much': {
    scenario: 2,
    seed: 23,
    file: 'scheduler/leases.ts',
    line: 'const MARGIN_SHARE = 0.05;',
    becomes: 'const MARGIN_SHARE = -0.5;',
  },
  'recover gives back rows that other nodes are sending': {
    scenario: 1,
    file: 'database/mysql/mysql-database.ts',
    line: 'found.startsWith(node) && !found.startsWith(owner)',
    becomes: '!found.startsWith(owner)',
  },
  'renew does not extend': {
    scenario: 0,
    file: 'database/mysql/leases.ts',
    line: 'rows.slice(at, at + RENEW_ROWS), leaseUntilMs, owner);',
    becomes: 'rows.slice(at, at + RENEW_ROWS), 0, owner);',
  },
  'a claim takes rows whose lease is not over': {
    scenario: 0,
    file: 'database/mysql/claim.ts',
    line: 'WHERE destination = ? AND due_at <= ?\n',
    becomes: 'WHERE destination = ? AND due_at <= ? + 1500\n',
  },
  'a claim keeps the fence': {
    scenario: 2,
    file: 'database/mysql/claim.ts',
    line: 'fence = fence + 1, lease_owner',
    becomes: 'lease_owner',
  },
  'the poll overlooks leases that ended': {
    scenario: 1,
    file: 'database/mysql/leases.ts',
    line: 'FROM mail_outbox\n     GROUP BY',
    becomes: "FROM mail_outbox WHERE state <> 'SENDING'\n     GROUP BY",
  },
  'a commit in doubt is taken for one that failed': {
    scenario: 3,
    seed: 9,
    file: 'database/mysql/transaction.ts',
    line: 'return rows[0]?.token === name.token;',
    becomes: 'return false;',
  },
  'a commit in doubt is taken for one that happened': {
    scenario: 3,
    file: 'database/mysql/transaction.ts',
    line: 'return rows[0]?.token === name.token;',
    becomes: 'return true;',
  },
  'transactions are none': {
    scenario: 3,
    file: 'database/mysql/connection.ts',
    line: 'autocommit = 0',
    becomes: 'autocommit = 1',
  },
  'a DSN is kept though its settlement was rejected': {
    scenario: 2,
    seed: 19,
    file: 'database/mysql/mysql-database.ts',
    line: 'if (settlement !== undefined && !accepted[settlement]) {',
    becomes: 'if (settlement !== undefined && accepted.length === 0) {',
  },
  'settlements of a commit that failed are forgotten': {
    scenario: 3,
    file: 'persistence/group-commit.ts',
    line: '    this.#queue.putBack(batch);',
    becomes: '',
  },
  'a settled row stays among those being sent': {
    scenario: 0,
    file: 'relay/stages.ts',
    line: '    this.leases.drop(result);',
    becomes: '',
  },
  'a rejected result is told as if it counted': {
    scenario: 2,
    file: 'relay/stages.ts',
    line: '    if (accepted) this.events.attempt(',
    becomes: '    if (accepted || true) this.events.attempt(',
  },
  'a row claimed while it is being sent is sent again': {
    scenario: 2,
    seed: 61,
    file: 'scheduler/leases.ts',
    line: '      held.newFence = fence;\n      return false;',
    // A job without an epoch would never send content.
    becomes:
      '      job.leaseEpoch = Atomics.load(this.#gauges, leaseEpochOf(leases.shard));\n      return true;',
  },
  'a shard that failed is never tried again': {
    scenario: 4,
    file: 'database/shard-health.ts',
    line: 'if (!this.#probing && nowMs >= this.#retryAtMs)',
    becomes: 'if (!this.#probing && nowMs < 0)',
  },
  'places with delivery are not given back': {
    scenario: 2,
    file: 'scheduler/embedded.ts',
    line: '    addInFlight(place, -1);\n    this.#inFlight--;\n    this.#forget(place);',
    becomes: '    addInFlight(place, -1);\n    this.#forget(place);',
  },
  'a withdrawal takes rows from under an attempt': {
    scenario: 5,
    seed: 3,
    file: 'database/mysql/withdraw.ts',
    line: "state === 'SENDING' && found !== owner;",
    becomes: "state === 'NONE' && found !== owner;",
  },
  'a claim brings what is being withdrawn': {
    scenario: 5,
    seed: 35,
    file: 'scheduler/leases.ts',
    line: '      if (!withdrawn.has(job.queueId) && this.hold(job, leaseUntilMs)) return true;',
    becomes: '      if (this.hold(job, leaseUntilMs)) return true;',
  },
  'jobs of a message that is withdrawn stay with delivery': {
    scenario: 5,
    seed: 38,
    file: 'relay/undelivered.ts',
    line: '      await within(',
    becomes: '      if (queueId === "") await within(',
  },
  'an operator ends and reroutes what is being sent': {
    scenario: 6,
    file: 'database/mysql/operate.ts',
    line: "  const ours = found.rows.filter(({ state }) => state !== 'SENDING');",
    becomes: '  const ours = found.rows;',
  },
};
