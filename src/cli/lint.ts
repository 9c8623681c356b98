/** `protorelay lint`: whether receivers will find in DNS, or in a message, what they ask of senders. */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { domainForm, isDomainForm } from '../base/domain.ts';
import { RelayError } from '../base/errors.ts';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { parseIp } from '../base/ip.ts';
import { printable, printableJson } from '../base/printable.ts';
import { readRegular } from '../base/regular-file.ts';
import { configFor } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import type { SigningKey, Source } from '../lint/domain.ts';
import type { Finding, Findings } from '../lint/finding.ts';
import { type CommandLine, noteBelow } from './command-line.ts';
import { several } from './selecting.ts';

interface Options {
  selector?: string[];
  address?: string[];
  returnPath?: string;
  offline: boolean;
  json: boolean;
}

const MOST_BYTES = 256 * 1_048_576;
const NOTE =
  'A word is a file where there is one of that name, or it has a slash; else a domain. Exit codes: 0 nothing is wrong, 1 warnings, 2 errors (docs/lint.md).';

export function addLint(program: Command, line: CommandLine): void {
  const command = program
    .command('lint')
    .description('check what receivers ask of senders: of a domain in DNS, or of a message')
    .argument('<domain|file>', 'the domain of From:, or a message in a file')
    .addOption(
      several('--selector <name>', 'of a DKIM key of the domain, besides those in dkim.keys', selectorOf),
    )
    .addOption(several('--address <ip>', 'mail leaves from it (default: those of the config)', addressOf))
    .option('--return-path <domain>', 'of the reverse-path (default: the domain)', domainIn)
    .option('--offline', 'of a file: without DNS', false)
    .option('--json', 'print JSON', false);
  noteBelow(command, NOTE).action(async (target: string, options: Options) => {
    line.endsWith(await lint(target, options, line));
  });
}

async function lint(target: string, options: Options, line: CommandLine): Promise<ExitCode> {
  const { Findings } = await import('../lint/finding.ts');
  const findings = new Findings();
  const isFile = target.includes('/') || existsSync(target);
  const domain = isFile ? await messageDomain(target, findings) : domainForm(target);
  if (!isFile && (domain === null || !isDomainForm(domain)))
    line.usage(`"${target}" is neither a file nor a domain`);
  if (!isFile && options.offline)
    line.usage(`"${target}" is no file, and of a domain nothing can be told --offline`);
  if (domain !== null && domain !== '' && !(isFile && options.offline))
    await lintInDns(
      domain,
      options,
      configFor(['dns', 'delivery', 'hostname', 'dkim', 'egress'], line.configPath()),
      findings,
    );
  print(target, isFile, findings.all, options.json, line);
  return codeOf(findings.all);
}

/** Checks the message. @returns the domain of its author; '' where there is none. */
async function messageDomain(path: string, findings: Findings): Promise<string> {
  const { lintMessage } = await import('../lint/message.ts');
  let bytes: Buffer;
  try {
    bytes = readRegular(path, MOST_BYTES);
  } catch (error) {
    throw new RelayError('content_missing', `${path} cannot be read: ${(error as Error).message}`, error);
  }
  return lintMessage(bytes, findings).fromDomain;
}

async function lintInDns(
  domain: string,
  { selector = [], address = [], returnPath = domain }: Options,
  config: Config,
  findings: Findings,
): Promise<void> {
  const [{ lintDomain }, { LookUp }, { Queries }] = await Promise.all([
    import('../lint/domain.ts'),
    import('../lint/look-up.ts'),
    import('../dns/queries.ts'),
  ]);
  const ehloName = config.delivery.ehlo_name ?? config.hostname;
  const { egress, delivery } = config;
  const own = [{ address: delivery.source_address, ehlo_name: undefined }, ...egress.sources];
  const given = address.length > 0 ? address.map((one) => ({ address: one, ehlo_name: undefined })) : own;
  const sources = given.flatMap(({ address: text = '', ehlo_name }): Source[] => {
    const ip = parseIp(text);
    return ip === null ? [] : [{ address: ip, ehloName: ehlo_name ?? ehloName }];
  });
  const keys = [
    ...selector.map((one) => ({ domain, selector: one })),
    ...keysOf(domain, config).filter((key) => key.domain !== domain || !selector.includes(key.selector)),
  ];
  const facts = { domain, returnPath, keys, sources };
  await lintDomain(new LookUp(new Queries(config.dns)), facts, findings);
  const { mode } = config.delivery.tls;
  if (mode === 'none')
    findings.error(
      'tls',
      'delivery.tls.mode is none: Google takes no mail without TLS',
      'set it to opportunistic',
    );
  else findings.ok('tls', `deliveries use TLS where it is offered, or always (delivery.tls.mode: ${mode})`);
}

/** Keys of the config that sign mail of the domain: its own, else those of the nearest domain above; and those that sign all. */
function keysOf(domain: string, { dkim }: Config): SigningKey[] {
  const labels = domain.split('.');
  const names = labels.map((_, i) => labels.slice(i).join('.'));
  const signer = names.find((name) => dkim.keys.some((key) => key.domain === name));
  return dkim.keys
    .filter((key) => key.domain === signer || dkim.also_sign.includes(key.domain))
    .map(({ domain: name, selector }) => ({ domain: name, selector }));
}

const codeOf = (findings: readonly Finding[]): ExitCode =>
  findings.some(({ severity }) => severity === 'error')
    ? EXIT.lintErrors
    : findings.some(({ severity }) => severity === 'warning')
      ? EXIT.lintWarnings
      : EXIT.ok;

const ORDER = ['error', 'warning', 'ok'];

function print(
  target: string,
  isFile: boolean,
  findings: readonly Finding[],
  json: boolean,
  { out }: CommandLine,
): void {
  const place = ({ severity, check }: Finding): string => `${ORDER.indexOf(severity)} ${check}`;
  // Those of one check stay as they came: what they are about is in order.
  const sorted = findings.toSorted((a, b) => (place(a) < place(b) ? -1 : place(a) > place(b) ? 1 : 0));
  if (json) {
    const answer = {
      target,
      kind: isFile ? 'message' : 'domain',
      errors: findings.filter(({ severity }) => severity === 'error').length,
      warnings: findings.filter(({ severity }) => severity === 'warning').length,
      findings: sorted.map(({ check, severity, text, mend }) => ({
        check,
        severity,
        text,
        mend: mend || null,
      })),
    };
    out.write(`${printableJson(JSON.stringify(answer, null, 2))}\n`);
    return;
  }
  for (const { check, severity, text, mend } of sorted)
    out.write(`${printable(`${severity}: ${check}: ${text}${mend === '' ? '' : ` (${mend})`}`)}\n`);
}

function selectorOf(text: string): string {
  if (/^[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/i.test(text) && text.length <= 200) return text.toLowerCase();
  throw new InvalidArgumentError('It is the name of a key, as s1.');
}

function addressOf(text: string): string {
  if (parseIp(text) !== null) return text;
  throw new InvalidArgumentError('It is an IPv4 or IPv6 address.');
}

function domainIn(text: string): string {
  const domain = domainForm(text);
  if (domain !== null && isDomainForm(domain)) return domain;
  throw new InvalidArgumentError('It is a domain.');
}
