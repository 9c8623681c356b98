/** A signer with an RSA and an Ed25519 key of its own, and the records of both. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Arena,
  closeSigningKey,
  createArena,
  openSigningKey,
  Signer,
  type SigningOrder,
  signedFields,
} from '../../src/native.ts';

export const SIGNED = [
  ...[
    'From',
    'Sender',
    'Reply-To',
    'To',
    'Cc',
    'Subject',
    'Date',
    'Message-ID',
    'References',
    'MIME-Version',
  ],
  ...['Content-Type', 'Content-Transfer-Encoding', 'List-Unsubscribe', 'List-Unsubscribe-Post'],
];
export const OVERSIGNED = ['From', 'Reply-To', 'To', 'Cc', 'Subject', 'Date', 'Message-ID', 'Content-Type'];

export interface MadeKey {
  pem: string;
  /** The TXT record. */
  record: string;
}

export function makeKey(type: 'rsa' | 'ed25519', bits = 2048): MadeKey {
  const format = { type: 'pkcs8', format: 'pem' } as const;
  const der = { type: 'spki', format: 'der' } as const;
  if (type === 'rsa') {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
    const record = `v=DKIM1; k=rsa; p=${publicKey.export(der).toString('base64')}`;
    return { pem: privateKey.export(format) as string, record };
  }
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const record = `v=DKIM1; k=ed25519; p=${publicKey.export(der).subarray(-32).toString('base64')}`;
  return { pem: privateKey.export(format) as string, record };
}

export class DkimRig {
  readonly dir = mkdtempSync(join(tmpdir(), 'dkim-rig-'));
  readonly arena: Arena = createArena(32 << 20, this.dir);
  readonly records: Record<string, string>;
  readonly slots: number[];
  readonly signer: Signer;
  readonly #waiting = new Map<number, { resolve(fields: string): void; reject(error: Error): void }>();
  #ticket = 0;

  constructor() {
    const rsa = makeKey('rsa');
    const ed25519 = makeKey('ed25519');
    this.slots = [
      openSigningKey(rsa.pem, 'example.com', 'r1') as number,
      openSigningKey(ed25519.pem, 'example.com', 'e1') as number,
    ];
    this.records = {
      'r1._domainkey.example.com': rsa.record,
      'e1._domainkey.example.com': ed25519.record,
    };
    this.signer = new Signer(this.arena, (results) => {
      for (let i = 0; i < results.length; i += 3) {
        const waiting = this.#waiting.get(results[i] as number);
        this.#waiting.delete(results[i] as number);
        if (results[i + 2] === '') waiting?.resolve(results[i + 1] as string);
        else waiting?.reject(new Error(results[i + 2] as string));
      }
    });
  }

  /** A content that lies in a file. */
  spilled(content: Buffer): number {
    const path = join(this.dir, 'spilled');
    writeFileSync(path, Buffer.concat([Buffer.from('before it'), content]));
    return this.arena.storeFile(openSync(path, 'r'), 9, content.length);
  }

  /** The DKIM-Signature fields of a content. */
  sign(content: number, order: Partial<SigningOrder> = {}): Promise<string> {
    const ticket = ++this.#ticket;
    return new Promise((resolve, reject) => {
      this.#waiting.set(ticket, { resolve, reject });
      const taken = this.signer.add({
        ticket,
        content,
        before: '',
        slots: this.slots,
        fields: signedFields(SIGNED, OVERSIGNED),
        signedAt: Math.floor(Date.now() / 1000),
        expiresAt: 0,
        ...order,
      });
      if (!taken) reject(new Error('a slot is closed'));
      this.signer.flush();
    });
  }

  /** A message signed as a receiver gets it. */
  async signed(content: Buffer, before = '', spilled = false): Promise<Buffer> {
    const handle = spilled ? this.spilled(content) : this.arena.store(content);
    const fields = await this.sign(handle, { before });
    this.arena.release(handle);
    return Buffer.concat([Buffer.from(fields, 'latin1'), Buffer.from(before, 'utf8'), content]);
  }

  close(): void {
    this.signer.close();
    for (const slot of this.slots) closeSigningKey(slot);
    rmSync(this.dir, { recursive: true });
  }
}
