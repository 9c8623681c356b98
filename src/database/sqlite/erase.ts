/**
 * Deletes mails with all their rows and content, and gathers the objects that may have lost their last mail by that.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { execute } from '../../base/sqlite-execute.ts';
import type { ContentRef, Storage } from '../../storage/storage.ts';

/** What must be known of a mail to delete it. */
export interface MailFacts {
  id: string;
  sizeBytes: number;
  object: string | null;
  contentAt: number;
  contentParts: number;
  attachments: number;
  headers: number;
}

/** Columns of them, of `mails m`. */
export const MAIL_FACTS = `m.id, m.size_bytes AS sizeBytes, m.object, m.content_at AS contentAt,
  m.content_parts AS contentParts, m.attachments, m.headers`;

export function contentRef(mail: MailFacts): ContentRef {
  return {
    object: mail.object ?? '',
    offset: mail.contentAt,
    lengthBytes: mail.sizeBytes,
    parts: mail.contentParts,
  };
}

export class MailEraser {
  readonly #storage: Storage;
  readonly #outbox: StatementSync;
  readonly #recipients: StatementSync;
  readonly #attachments: StatementSync;
  readonly #headers: StatementSync;
  readonly #mail: StatementSync;
  /** Delete all rows of a range of mails. */
  readonly #ranges: StatementSync[];
  readonly #objectInUse: StatementSync;
  /** Objects of mails deleted in this transaction. */
  #objects = new Set<string>();
  #erased = 0;

  constructor(db: DatabaseSync, storage: Storage) {
    this.#storage = storage;
    this.#outbox = db.prepare('DELETE FROM mail_outbox WHERE mail_id = ?');
    this.#recipients = db.prepare('DELETE FROM mail_recipients WHERE mail_id = ?');
    this.#attachments = db.prepare('DELETE FROM attachments WHERE mail_id = ?');
    this.#headers = db.prepare('DELETE FROM mail_headers WHERE mail_id = ?');
    this.#mail = db.prepare('DELETE FROM mails WHERE id = ?');
    this.#ranges = ['mail_outbox', 'mail_recipients', 'attachments', 'mail_headers', 'mails'].map((table) => {
      const id = table === 'mails' ? 'id' : 'mail_id';
      return db.prepare(`DELETE FROM ${table} WHERE ${id} > ? AND ${id} <= ?`);
    });
    this.#objectInUse = db.prepare('SELECT 1 FROM mails WHERE object = ? LIMIT 1');
  }

  /** To be called when a transaction begins. */
  begin(): void {
    this.#objects.clear();
    this.#erased = 0;
  }

  erase(mail: MailFacts): void {
    execute(this.#outbox, mail.id);
    execute(this.#recipients, mail.id);
    if (mail.attachments > 0) execute(this.#attachments, mail.id);
    if (mail.headers > 0) execute(this.#headers, mail.id);
    this.#storage.erase(contentRef(mail));
    execute(this.#mail, mail.id);
    if (mail.object !== null) this.#objects.add(mail.object);
    this.#erased++;
  }

  /** All mails of a range, which are these, in order. */
  eraseRange(mails: readonly MailFacts[], after: string, until: string): void {
    for (const statement of this.#ranges) statement.run(after, until);
    let run: ContentRef | null = null;
    for (const mail of mails) {
      const ref = contentRef(mail);
      // Contents that lie one behind another are deleted together.
      if (run !== null && ref.object === '' && run.object === '' && ref.offset === run.offset + run.parts)
        run.parts += ref.parts;
      else {
        if (run !== null) this.#storage.erase(run);
        run = ref;
      }
      if (mail.object !== null) this.#objects.add(mail.object);
    }
    if (run !== null) this.#storage.erase(run);
    this.#erased += mails.length;
  }

  /** An object that was stored for this transaction but not used by it. */
  mayOrphan(object: string): void {
    if (object !== '') this.#objects.add(object);
  }

  /** Number of mails erased in this transaction. */
  get erased(): number {
    return this.#erased;
  }

  readonly isReferenced = (object: string): boolean => this.#objectInUse.get(object) !== undefined;

  /**
   * To be called after the commit: deletes the objects that lost their last mail. Never fails: an object that cannot be
   * deleted is swept later.
   */
  async removeObjects(): Promise<void> {
    if (this.#objects.size === 0) return;
    const objects = [...this.#objects];
    this.#objects.clear();
    try {
      const orphans = objects.filter((object) => !this.isReferenced(object));
      if (orphans.length > 0) await this.#storage.remove(orphans);
    } catch {
      // The sweep looks at every object again.
    }
  }
}
