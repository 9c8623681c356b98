/** Programs nobody here wrote that verify DKIM: opendkim, dkimpy and mailauth, asked without DNS. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { programPath, skipWithout } from '../support/programs.ts';

const run = promisify(execFile);

/** Records by name: s1._domainkey.example.com. */
export type KeyRecords = Record<string, string>;

/** 'pass' or what else it says, for each signature of a message in turn. */
export type Verdicts = string[];

/** The reason why not all can be asked, else false. */
export const skipWithoutVerifiers = (): string | false => skipWithout('opendkim', 'dkimverify');

interface MailauthResult {
  results: { status: { result: string; comment?: string } }[];
}
interface MailauthOptions {
  resolver(name: string, type: string): Promise<string[][]>;
}

export async function byMailauth(messages: Buffer[], records: KeyRecords): Promise<Verdicts[]> {
  const require = createRequire(import.meta.url);
  const { dkimVerify } = require('mailauth/lib/dkim/verify') as {
    dkimVerify(message: Buffer, options: MailauthOptions): Promise<MailauthResult>;
  };
  const resolver = async (name: string): Promise<string[][]> => {
    const record = records[name];
    if (record === undefined) throw Object.assign(new Error(`no ${name}`), { code: 'ENOTFOUND' });
    return [[record]];
  };
  const all: Verdicts[] = [];
  for (const message of messages) {
    const { results } = await dkimVerify(message, { resolver });
    all.push(results.map(({ status }) => status.result));
  }
  return all;
}

const DKIMPY = `
import dkim, json, sys
given = json.load(open(sys.argv[1]))
def record(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    return given['records'].get(name.rstrip('.'), '').encode()
verdicts = []
for path in given['files']:
    message = open(path, 'rb').read()
    one = dkim.DKIM(message)
    count = len([name for name, value in one.headers if name.lower() == b'dkim-signature'])
    said = []
    for i in range(count):
        try:
            said.append('pass' if dkim.DKIM(message).verify(idx=i, dnsfunc=record) else 'fail')
        except Exception as error:
            said.append(repr(error))
    verdicts.append(said)
print(json.dumps(verdicts))
`;

async function byDkimpy(files: string[], records: KeyRecords, dir: string): Promise<Verdicts[]> {
  const given = join(dir, 'given.json');
  writeFileSync(given, JSON.stringify({ files, records }));
  // Where Debian's package was unpacked, its modules are beside the program.
  const modules = join(dirname(programPath('dkimverify') as string), '../usr/lib/python3/dist-packages');
  const python = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';
  const env = { ...process.env, PYTHONPATH: modules, LD_PRELOAD: '' };
  const { stdout } = await run(python, ['-c', DKIMPY, given], { env });
  return JSON.parse(stdout) as Verdicts[];
}

async function byOpendkim(files: string[], records: KeyRecords, dir: string): Promise<Verdicts[]> {
  const keys = join(dir, 'keys');
  const config = join(dir, 'opendkim.conf');
  writeFileSync(
    keys,
    Object.entries(records)
      .map(([name, text]) => `${name} ${text}\n`)
      .join(''),
  );
  writeFileSync(
    config,
    `Mode v\nTestPublicKeys ${keys}\nSyslog no\nMaximumHeaders 0\nMaximumSignaturesToVerify 10\n`,
  );
  const env = { ...process.env, LD_PRELOAD: '' };
  const args = ['-x', config, '-vv', '-t', files.join(',')];
  const { stdout } = await run(programPath('opendkim') as string, args, { env, maxBuffer: 1 << 24 });
  const reports = stdout.split('### INSHEADER').slice(1);
  return reports.map((report) => [...report.matchAll(/\bdkim=(\w+)/g)].map(([, result]) => result as string));
}

/** What each verifier says of each message. */
export async function verdictsOf(
  messages: Buffer[],
  records: KeyRecords,
): Promise<{ opendkim: Verdicts[]; dkimpy: Verdicts[]; mailauth: Verdicts[] }> {
  const dir = mkdtempSync(join(tmpdir(), 'dkim-'));
  try {
    const files = messages.map((message, i) => {
      const file = join(dir, `${i}.eml`);
      writeFileSync(file, message);
      return file;
    });
    const [opendkim, dkimpy, mailauth] = await Promise.all([
      byOpendkim(files, records, dir),
      byDkimpy(files, records, dir),
      byMailauth(messages, records),
    ]);
    return { opendkim, dkimpy, mailauth };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
