/**
 * Remembers token and result of the newest group commit, in its own transaction: when the writing thread dies
 * before it could answer, this tells what became of the batch, so that nothing is settled or bounced twice (I6).
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { CommitResult } from '../database.ts';

const YES = '1';

/** 'n' when all n flags are true (nearly always), else one digit for each. */
function encode(flags: boolean[]): string {
  return flags.every((flag) => flag)
    ? `${flags.length}`
    : `:${flags.map((flag) => (flag ? YES : '0')).join('')}`;
}

function decode(text: string): boolean[] {
  return text.startsWith(':')
    ? [...text.slice(1)].map((digit) => digit === YES)
    : new Array(Number(text)).fill(true);
}

export class LastCommit {
  readonly #write: StatementSync;
  readonly #read: StatementSync;

  constructor(db: DatabaseSync) {
    this.#write = db.prepare(
      "INSERT INTO relay_state VALUES ('last_commit', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
    );
    this.#read = db.prepare("SELECT value FROM relay_state WHERE name = 'last_commit'");
  }

  write(token: string, result: CommitResult): void {
    const messages = encode(result.messages.map((fate) => fate === 'committed'));
    this.#write.run(
      `${token} ${messages} ${encode(result.settlements.map((accepted) => accepted === true))}`,
    );
  }

  read(token: string): CommitResult | null {
    const [found, messages, settlements] = String(this.#read.get()?.value ?? '').split(' ');
    if (found !== token || messages === undefined || settlements === undefined) return null;
    return {
      messages: decode(messages).map((committed) => (committed ? 'committed' : 'withdrawn')),
      settlements: decode(settlements),
    };
  }
}
