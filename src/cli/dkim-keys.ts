/** What the commands of `protorelay dkim` do with keys: make one, print records, compare them with DNS. */
import { generateKeyPairSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson, printableLines } from '../base/printable.ts';
import type { TxtAnswer } from '../signing/key-book.ts';
import { factsOf, type KeyFile, readKeyFile, refusalOf, weaknessOf } from '../signing/key-file.ts';
import { recordFault, recordName, recordStrings, recordText, zoneLine } from '../signing/record.ts';

export interface KeyPlace {
  domain: string;
  selector: string;
  file: string;
}

export interface NewKey extends KeyPlace {
  algorithm: 'rsa' | 'ed25519';
  bits: number;
}

const NONE = 'dkim.keys of the config is empty\n';

type Out = Pick<NodeJS.WritableStream, 'write'>;

/** Makes a key. Nothing is written over: whoever has a key published would lose it. */
export function generateKey(
  { domain, selector, file, algorithm, bits }: NewKey,
  json: boolean,
  out: Out,
  err: Out,
): ExitCode {
  const { privateKey } =
    algorithm === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: bits })
      : generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  try {
    const fd = openSync(file, 'wx', 0o600);
    try {
      writeSync(fd, pem);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'EEXIST'
        ? 'is there already, and a key is never written over'
        : `cannot be written: ${message}`;
    err.write(printableLines(`protorelay: ${file} ${why}\n`));
    return EXIT.cannotCreate;
  }
  const key = factsOf(privateKey, pem) as KeyFile;
  const entry = { domain, selector, file: resolve(file) };
  if (json) out.write(jsonText({ ...recordOf(entry, key), file: entry.file }));
  else
    out.write(
      printableLines(
        `The private key is in ${file}. Publish this record:\n\n${zoneLine(recordName(selector, domain), recordText(key))}\n\nand add to dkim.keys in the config:\n\n${JSON.stringify(entry)}\n\nIt signs once DNS shows the record (protorelay dkim check).\n`,
      ),
    );
  return EXIT.ok;
}

export function printRecords(places: readonly KeyPlace[], json: boolean, out: Out, err: Out): ExitCode {
  let code: ExitCode = EXIT.ok;
  const records: object[] = [];
  let zone = '';
  for (const place of places) {
    const key = usableKey(place.file);
    if (typeof key === 'string') {
      code = EXIT.dataError;
      err.write(printableLines(`protorelay: ${recordName(place.selector, place.domain)}: ${key}\n`));
      continue;
    }
    records.push(recordOf(place, key));
    zone += `${zoneLine(recordName(place.selector, place.domain), recordText(key))}\n`;
  }
  out.write(json ? jsonText({ records }) : printableLines(places.length === 0 ? NONE : zone));
  return code;
}

/** Asks for TXT records. */
export type AskTxt = (name: string) => Promise<TxtAnswer>;

export async function checkRecords(
  places: readonly KeyPlace[],
  txt: AskTxt,
  json: boolean,
  out: Out,
): Promise<ExitCode> {
  const keys = await Promise.all(places.map((place) => checkOne(place, txt)));
  if (json) out.write(jsonText({ keys }));
  else if (keys.length === 0) out.write(NONE);
  else
    for (const { state, name, detail, algorithm, bits } of keys) {
      const kind = algorithm === null ? '' : ` (${algorithm}, ${bits} bits)`;
      out.write(printableLines(`${state.padEnd(11)} ${name}${kind}${detail === '' ? '' : `: ${detail}`}\n`));
    }
  if (keys.some(({ state }) => state !== 'shown' && state !== 'unanswered')) return EXIT.dataError;
  return keys.every(({ state }) => state === 'shown') ? EXIT.ok : EXIT.temporary;
}

interface Checked {
  domain: string;
  selector: string;
  name: string;
  file: string;
  algorithm: string | null;
  bits: number | null;
  /** shown: DNS has its record. unusable: the file is. */
  state: 'shown' | 'missing' | 'different' | 'unanswered' | 'unusable';
  detail: string;
}

async function checkOne({ domain, selector, file }: KeyPlace, txt: AskTxt): Promise<Checked> {
  const name = recordName(selector, domain);
  const key = usableKey(file);
  const facts = { domain, selector, name, file };
  if (typeof key === 'string')
    return { ...facts, algorithm: null, bits: null, state: 'unusable', detail: key };
  const known = { ...facts, algorithm: key.algorithm, bits: key.bits };
  const answer = await txt(name);
  if (answer.kind === 'temporary')
    return { ...known, state: 'unanswered', detail: `DNS does not answer (${answer.detail})` };
  if (answer.kind !== 'found') return { ...known, state: 'missing', detail: recordFault([], key) };
  const fault = recordFault(answer.records, key);
  const weakness = weaknessOf(key) === '' ? '' : `the key ${weaknessOf(key)}`;
  return { ...known, state: fault === '' ? 'shown' : 'different', detail: fault || weakness };
}

function usableKey(file: string): KeyFile | string {
  const key = readKeyFile(file);
  if (typeof key === 'string') return key;
  return refusalOf(key) === '' ? key : `${file} ${refusalOf(key)}`;
}

function recordOf({ domain, selector }: Omit<KeyPlace, 'file'>, key: KeyFile): object {
  const name = recordName(selector, domain);
  const value = recordText(key);
  const { algorithm, bits } = key;
  return {
    domain,
    selector,
    algorithm,
    bits,
    name,
    type: 'TXT',
    value,
    strings: recordStrings(value),
    zone: zoneLine(name, value),
  };
}

const jsonText = (value: object): string => `${printableJson(JSON.stringify(value, null, 2))}\n`;
