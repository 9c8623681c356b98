/** What receivers will find in DNS of a domain that mail is sent from. */
import { createPublicKey } from 'node:crypto';
import { formatIp, type Ip } from '../base/ip.ts';
import { type DmarcPolicy, dmarcOf, isAligned } from './dmarc.ts';
import type { Findings } from './finding.ts';
import type { LookUp } from './look-up.ts';
import { checkSpf, letsAll, MAX_LOOKUPS } from './spf.ts';

/** Where mail leaves from, and under which name. */
export interface Source {
  address: Ip;
  ehloName: string;
}

/** A DKIM key: `selector._domainkey.domain` is its record. */
export interface SigningKey {
  domain: string;
  selector: string;
}

export interface DomainFacts {
  /** Of From:, in the form of base/domain.ts. */
  domain: string;
  /** Of the reverse-path. */
  returnPath: string;
  /** That sign its mail, as far as they are known. */
  keys: readonly SigningKey[];
  sources: readonly Source[];
}

/** A check each, all at once: DNS has its own patience. */
export async function lintDomain(dns: LookUp, facts: DomainFacts, findings: Findings): Promise<void> {
  const { domain, returnPath, keys, sources } = facts;
  await Promise.all([
    trying('spf', `SPF of ${returnPath}`, findings, () => lintSpf(dns, facts, findings)),
    ...keys.map((key) => {
      const name = `${key.selector}._domainkey.${key.domain}`;
      return trying('dkim', `the key ${name}`, findings, () => lintKey(dns, name, findings));
    }),
    trying('dmarc', `DMARC of ${domain}`, findings, () => lintDmarc(dns, facts, findings)),
    trying('mx', `whether ${returnPath} takes mail`, findings, () => lintMx(dns, returnPath, findings)),
    ...sources.map((source) =>
      trying('ptr', `the name of ${formatIp(source.address)}`, findings, () =>
        lintSource(dns, source, findings),
      ),
    ),
  ]);
  if (keys.length === 0)
    findings.warning(
      'dkim',
      `no key of ${domain} is known`,
      'name its selectors with --selector, or add its keys to dkim.keys',
    );
  if (sources.length === 0)
    findings.warning(
      'ptr',
      'no address is known that mail leaves from',
      'name them with --address, or in egress.sources or delivery.source_address',
    );
}

async function trying(
  check: Parameters<Findings['ok']>[0],
  what: string,
  findings: Findings,
  ask: () => Promise<void>,
): Promise<void> {
  try {
    await ask();
  } catch (error) {
    findings.unknown(check, what, error);
  }
}

async function lintSpf(dns: LookUp, { returnPath, sources }: DomainFacts, findings: Findings): Promise<void> {
  const { result, lookups, fault, usesPtr } = await checkSpf(dns, returnPath, null);
  if (result === 'none') {
    findings.error('spf', `${returnPath} has no SPF record`, 'publish a TXT record v=spf1 …');
    return;
  }
  if (result === 'permerror') {
    findings.error('spf', `SPF of ${returnPath} is broken: ${fault}`);
    return;
  }
  findings.ok('spf', `SPF of ${returnPath} takes ${lookups} of ${MAX_LOOKUPS} look-ups`);
  if (usesPtr) findings.warning('spf', `SPF of ${returnPath} uses ptr, which many receivers do not ask`);
  if (letsAll(await dns.txt(returnPath)))
    findings.error('spf', `SPF of ${returnPath} lets everybody send (+all)`, 'end it with ~all or -all');
  for (const { address } of sources) {
    const verdict = await checkSpf(dns, returnPath, address);
    const ip = formatIp(address);
    if (verdict.result === 'pass') findings.ok('spf', `SPF of ${returnPath} covers ${ip}`);
    else
      findings.error(
        'spf',
        `SPF of ${returnPath} does not cover ${ip} (${verdict.result}${verdict.fault === '' ? '' : `: ${verdict.fault}`})`,
        `add ${address[2] === 0xffff ? 'ip4' : 'ip6'}:${ip}`,
      );
  }
}

/** RFC 6376 §3.6.1, RFC 8463, RFC 8301: keys of less than 1,024 bits are not taken. */
async function lintKey(dns: LookUp, name: string, findings: Findings): Promise<void> {
  const records = await dns.txt(name);
  if (records.length === 0) {
    findings.error('dkim', `there is no key at ${name}`, 'publish its TXT record');
    return;
  }
  if (records.length > 1) findings.error('dkim', `${name} has ${records.length} records`, 'leave one');
  const tags = tagsOf(records[0] as string);
  const key = tags.get('p') ?? '';
  if (tags.get('v') !== undefined && tags.get('v') !== 'DKIM1')
    findings.error('dkim', `the key at ${name} is of another version: v=${tags.get('v')}`);
  else if (key === '') findings.error('dkim', `the key at ${name} is revoked (p= is empty)`);
  else keyStrength(name, tags.get('k')?.toLowerCase() ?? 'rsa', key, findings);
  if (tags.get('t')?.split(':').includes('y'))
    findings.warning(
      'dkim',
      `the key at ${name} is for tests (t=y): receivers may take its signatures for none`,
    );
}

function keyStrength(name: string, type: string, key: string, findings: Findings): void {
  const der = Buffer.from(key, 'base64');
  if (type === 'ed25519') {
    if (der.length === 32) findings.ok('dkim', `${name} has an Ed25519 key`);
    else
      findings.error(
        'dkim',
        `the key at ${name} is no Ed25519 key: it has ${der.length} octets instead of 32`,
      );
    return;
  }
  const bits = type === 'rsa' ? rsaBits(der) : 0;
  if (bits === 0) findings.error('dkim', `the key at ${name} cannot be read (k=${type})`);
  else if (bits < 1024)
    findings.error('dkim', `the key at ${name} has ${bits} bits, receivers want 1,024`, 'make one of 2,048');
  else if (bits < 2048) findings.warning('dkim', `the key at ${name} has ${bits} bits`, 'make one of 2,048');
  else findings.ok('dkim', `${name} has an RSA key of ${bits} bits`);
}

/** 0 when it is no RSA key. Some publish it without the structure around it (PKCS #1). */
function rsaBits(der: Buffer): number {
  for (const type of ['spki', 'pkcs1'] as const) {
    try {
      return createPublicKey({ key: der, format: 'der', type }).asymmetricKeyDetails?.modulusLength ?? 0;
    } catch {}
  }
  return 0;
}

export function tagsOf(record: string): Map<string, string> {
  const tags = new Map<string, string>();
  for (const tag of record.split(';')) {
    const at = tag.indexOf('=');
    if (at > 0) tags.set(tag.slice(0, at).trim(), tag.slice(at + 1).replace(/\s+/g, ''));
  }
  return tags;
}

async function lintDmarc(
  dns: LookUp,
  { domain, returnPath, keys }: DomainFacts,
  findings: Findings,
): Promise<void> {
  const { policy, organization, ambiguous } = await dmarcOf(dns, domain);
  for (const name of ambiguous)
    findings.error('dmarc', `_dmarc.${name} has several records, which count as none`, 'leave one');
  if (policy === null) {
    findings.error(
      'dmarc',
      `${domain} has no DMARC policy`,
      `publish _dmarc.${organization} TXT "v=DMARC1; p=none; rua=mailto:…"`,
    );
    return;
  }
  const acts = policy.domain === domain ? policy.policy : policy.subdomains;
  findings.ok('dmarc', `${domain} has the DMARC policy ${acts} (of _dmarc.${policy.domain})`);
  if (!policy.hasReports)
    findings.warning('dmarc', `DMARC of ${policy.domain} asks for no reports`, 'add rua=mailto:…');
  await lintAlignment(dns, domain, returnPath, policy, findings);
  const signers = [...new Set(keys.map((key) => key.domain))];
  const aligned = await Promise.all(signers.map((one) => isAligned(dns, domain, one, policy.strictDkim)));
  if (signers.length > 0 && !aligned.includes(true))
    findings.error(
      'dmarc',
      `no signature is aligned with ${domain} (${policy.strictDkim ? 'strict' : 'relaxed'}): they are of ${signers.join(', ')}`,
      `have ${domain} sign`,
    );
}

async function lintAlignment(
  dns: LookUp,
  domain: string,
  returnPath: string,
  policy: DmarcPolicy,
  findings: Findings,
): Promise<void> {
  if (returnPath === domain) return;
  const mode = policy.strictSpf ? 'strict' : 'relaxed';
  if (await isAligned(dns, domain, returnPath, policy.strictSpf))
    findings.ok('dmarc', `the return path ${returnPath} is aligned with ${domain} (${mode})`);
  else
    findings.warning(
      'dmarc',
      `the return path ${returnPath} is not aligned with ${domain} (${mode}): DMARC rests on DKIM alone`,
    );
}

async function lintMx(dns: LookUp, domain: string, findings: Findings): Promise<void> {
  const exchangers = await dns.mx(domain);
  if (exchangers.includes(''))
    findings.error('mx', `${domain} takes no mail (null MX): many receivers refuse such a sender`);
  else if (exchangers.length > 0 || (await dns.addresses(domain)).length > 0)
    findings.ok('mx', `${domain} takes mail`);
  else
    findings.error(
      'mx',
      `${domain} has no MX and no address: its bounces go nowhere, and many receivers refuse it`,
    );
}

/** The address has a name that leads back to it, and so does the name of EHLO. */
async function lintSource(dns: LookUp, { address, ehloName }: Source, findings: Findings): Promise<void> {
  const ip = formatIp(address);
  const leadsBack = async (name: string): Promise<boolean> => (await dns.addresses(name)).includes(ip);
  const names = (await dns.ptr(address)).map((name) => name.replace(/\.$/, ''));
  const confirmed: string[] = [];
  for (const name of names.slice(0, 10)) if (await leadsBack(name)) confirmed.push(name);
  if (names.length === 0) findings.error('ptr', `${ip} has no name (PTR)`, 'have its owner set one');
  else if (confirmed.length === 0)
    findings.error(
      'ptr',
      `${names[0]}, the name of ${ip}, does not lead back to it`,
      `add an address record of ${names[0]}`,
    );
  else findings.ok('ptr', `${ip} is ${confirmed[0]}, which leads back to it`);
  if (await leadsBack(ehloName)) findings.ok('ptr', `EHLO ${ehloName} leads to ${ip}`);
  else
    findings.warning(
      'ptr',
      `EHLO ${ehloName} does not lead to ${ip}`,
      'set delivery.ehlo_name to the name of the address',
    );
}
