/**
 * Sends the TLS reports of days that are over (RFC 8460 §4.1, §5). The counts of all processes of the host for a
 * domain become one report, which goes to each place in the domain's `_smtp._tls` record, at a time of its own within
 * the delay. There is one of this for a host. A file beside the counts (`<domain>.sent`) says what was sent, so that
 * a restart sends nothing twice and forgets nothing.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import { parseMailbox } from '../protocol/address.ts';
import { gzipReport, writeReportMail } from './tls-report-mail.ts';
import { mergePolicies, ruaOf, type TlsReport } from './tls-rpt.ts';

export interface TlsReportSenderOptions {
  dir: string;
  /** The config as of the last reload. */
  config(): Config;
  log: Log;
  /** TXT records of a name; null when the question failed. */
  txt(name: string): Promise<string[] | null>;
  /** Queues a message from the null reverse-path; resolves when it is durable. */
  mail(to: { address: string; domain: string }, message: Buffer): Promise<void>;
  /** Resolves when the report was accepted. */
  post(url: string, report: Buffer, signal: AbortSignal): Promise<void>;
  now(): number;
}

/** How far the report of one domain and day was sent. */
interface Sending {
  done: boolean;
  /** Places that have accepted it. */
  sent: string[];
  tries: number;
  nextAtMs: number;
}

const DAY_MS = 86_400_000;
const DAY = /^\d{4}-\d\d-\d\d$/;
/** Name of a file with counts of a process (tls-rpt.ts). */
const COUNTED = /^([^~]+?)(?:~\d+)?\.json$/;
const LONGEST_PAUSE_MS = 60_000;
/** Pause between tries, which go on for up to 24 hours (RFC 8460 §5.5). */
const RETRY_MS = 3_600_000;
const MAX_TRIES = 24;
/** Older days are not reported, because nobody needs them: the relay was down for long. */
const TOO_OLD_MS = 3 * DAY_MS;
/** Most places to which the report of one domain is sent. */
const MAX_PLACES = 8;
/** How many domains are worked on at the same time: one that does not answer then leaves three for the others. */
const AT_A_TIME = 4;

export class TlsReportSender {
  readonly #options: TlsReportSenderOptions;
  readonly #abort = new AbortController();
  /** What is on disk of domains that were looked at, by 'day domain'. */
  readonly #known = new Map<string, Sending>();
  #timer: NodeJS.Timeout | null = null;
  #round: Promise<void> | null = null;

  constructor(options: TlsReportSenderOptions) {
    this.#options = options;
    this.#later();
  }

  #later(): void {
    if (this.#abort.signal.aborted) return;
    const { write_interval_ms } = this.#options.config().delivery.tls_rpt;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, write_interval_ms);
    this.#timer = setTimeout(() => void this.round().then(() => this.#later()), pauseMs).unref();
  }

  /** Sends the reports that are due. Never rejects. */
  round(): Promise<void> {
    this.#round ??= this.#sendDue()
      .catch((error) => this.#options.log.warn('tls_rpt.unreadable', { error, path: this.#options.dir }))
      .finally(() => {
        this.#round = null;
      });
    return this.#round;
  }

  /** Sends nothing more. Reports on their way are cut off, and sent again after the next start. */
  stop(): void {
    this.#abort.abort(new Error('the relay stops'));
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #sendDue(): Promise<void> {
    const { dir, config, now } = this.#options;
    if (!config().delivery.tls_rpt.send) return;
    for (const key of this.#known.keys()) if (isTooOld(key.slice(0, 10), now())) this.#known.delete(key);
    for (const day of await readdir(dir).catch(() => [])) {
      if (!DAY.test(day) || Date.parse(day) + DAY_MS > now() || isTooOld(day, now())) continue;
      const files = await readdir(join(dir, day));
      const ofDomain = Map.groupBy(files, (file) => COUNTED.exec(file)?.[1] ?? '');
      ofDomain.delete('');
      const domains = ofDomain.entries();
      const work = async (): Promise<void> => {
        for (const [domain, counted] of domains)
          if (!this.#abort.signal.aborted && (await this.#isDue(day, domain)))
            await this.#send(day, domain, counted);
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, work));
    }
  }

  async #isDue(day: string, domain: string): Promise<boolean> {
    const { config, now } = this.#options;
    const { write_interval_ms, max_send_delay_ms } = config().delivery.tls_rpt;
    // By then every process has written its counts of the day.
    const complete = Date.parse(day) + DAY_MS + 2 * write_interval_ms;
    if (now() < complete + max_send_delay_ms * shareOf(`${config().hostname} ${day} ${domain}`)) return false;
    const { done, nextAtMs } = await this.#sendingOf(day, domain);
    return !done && nextAtMs <= now();
  }

  async #sendingOf(day: string, domain: string): Promise<Sending> {
    const key = `${day} ${domain}`;
    const known = this.#known.get(key) ?? (await readSending(this.#fileOf(day, domain)));
    this.#known.set(key, known);
    return known;
  }

  #fileOf(day: string, domain: string): string {
    return join(this.#options.dir, day, `${domain}.sent`);
  }

  async #send(day: string, domain: string, counted: readonly string[]): Promise<void> {
    const { dir, config, log, now } = this.#options;
    const sending = await this.#sendingOf(day, domain);
    const reports = await Promise.all(counted.map((file) => readReport(join(dir, day, file))));
    const whole = reports.filter((report) => report !== null);
    if (whole.length < reports.length) log.warn('tls_rpt.damaged', { day, domain });
    const places = await this.#placesOf(domain, whole);
    const { hostname, node_id, delivery } = config();
    const { organization_name = hostname, contact_info = '' } = delivery.tls_rpt;
    const reportId = `${day}.${domain}.${node_id.replace(/[^A-Za-z0-9-]+/g, '-')}@${hostname}`;
    const policies = mergePolicies(whole);
    const report = gzipReport({
      domain,
      day,
      policies,
      organization: organization_name,
      contact: contact_info,
      reportId,
    });
    sending.tries++;
    sending.done = true;
    for (const place of policies.length === 0 ? [] : places) {
      if (sending.sent.includes(place)) continue;
      try {
        if (/^mailto:/i.test(place)) await this.#mail(place, { domain, day, reportId, report });
        else await this.#options.post(place, report, this.#abort.signal);
        sending.sent.push(place);
        log.info('tls_rpt.sent', { day, domain, to: place });
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        sending.done &&= sending.tries >= MAX_TRIES;
        const retryAt = sending.done ? null : new Date(now() + RETRY_MS).toISOString();
        log.warn('tls_rpt.not_sent', {
          day,
          domain,
          to: place,
          error: String((error as Error).message),
          retry_at: retryAt,
        });
      }
    }
    sending.nextAtMs = now() + RETRY_MS;
    await writeSending(this.#fileOf(day, domain), sending).catch((error) =>
      log.warn('tls_rpt.not_written', { error, day, domain }),
    );
  }

  /** Where the domain wants its report now; if that cannot be asked, where it wanted it on that day. */
  async #placesOf(domain: string, reports: readonly TlsReport[]): Promise<string[]> {
    const records = await this.#options.txt(`_smtp._tls.${domain}`);
    const rua = records === null ? reports.flatMap((report) => report.rua) : ruaOf(records);
    return [...new Set(rua)].slice(0, MAX_PLACES);
  }

  async #mail(
    place: string,
    parts: { domain: string; day: string; reportId: string; report: Buffer },
  ): Promise<void> {
    const { config, mail, now } = this.#options;
    const { hostname, delivery } = config();
    const from = delivery.tls_rpt.from_address ?? `postmaster@${hostname}`;
    const text = decodeURIComponent(place.slice('mailto:'.length).split('?')[0] as string);
    const mailbox = parseMailbox(text);
    if (mailbox === null || mailbox.domain === '' || !/^[!-~]+$/.test(text))
      throw new Error('not an address we can write to');
    const message = writeReportMail({ ...parts, from, to: text, nowMs: now() });
    await mail({ address: text, domain: mailbox.domain }, message);
  }
}

const isTooOld = (day: string, nowMs: number): boolean => Date.parse(day) + DAY_MS + TOO_OLD_MS < nowMs;

/** A number from 0 to 1 for the text, the same after a restart. */
function shareOf(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE() / 2 ** 32;
}

async function readReport(file: string): Promise<TlsReport | null> {
  try {
    const report = JSON.parse(await readFile(file, 'utf8')) as TlsReport;
    return Array.isArray(report.policies) && Array.isArray(report.rua) ? report : null;
  } catch {
    return null; // the caller reports it as damaged
  }
}

async function readSending(file: string): Promise<Sending> {
  try {
    const { done, sent, tries, nextAtMs } = JSON.parse(await readFile(file, 'utf8')) as Sending;
    return {
      done,
      sent: Array.isArray(sent) ? sent : [],
      tries: Number(tries) || 0,
      nextAtMs: Number(nextAtMs) || 0,
    };
  } catch {
    return { done: false, sent: [], tries: 0, nextAtMs: 0 }; // not sent yet
  }
}

async function writeSending(file: string, sending: Sending): Promise<void> {
  await writeFile(`${file}.new`, `${JSON.stringify(sending)}\n`, { mode: 0o600 });
  await rename(`${file}.new`, file);
}
