/**
 * Complaints, for the warm-ups: a report names our address that the message came from (RFC 5965 §3.1, Source-IP), or its queue id is remembered
 * by the process that sent it. All processes are told, because each has its part of a plan. Part of the composition root.
 */
import type { Config } from '../config/schema.ts';

/** What a report says of the message that is complained of. */
export interface Complaint {
  /** '' where it has no token. */
  queueId: string;
  /** The domain of who complains. */
  domain: string;
  /** '' where it is not said. */
  sourceAddress: string;
}

export interface ComplaintsPorts {
  current(): Config;
  /** The site that a domain belongs to; null: not known. */
  siteOf(domain: string): string | null;
  sentBy(queueId: string): readonly [source: string, site: string] | null;
  counted(source: string, site: string): void;
  /** Tells the other processes a line. */
  tell(line: string): void;
}

/** A line is a source and a site, or a queue id that somebody may know. */
const COUNTED = 'complaint\t';
const ASKED = 'complaint of\t';

export class Complaints {
  readonly #ports: ComplaintsPorts;

  constructor(ports: ComplaintsPorts) {
    this.#ports = ports;
  }

  /** A report came to this process. */
  take({ queueId, domain, sourceAddress }: Complaint): void {
    const known = this.#ports.sentBy(queueId);
    const source = known?.[0] ?? this.#sourceAt(sourceAddress);
    const site = known?.[1] ?? this.#ports.siteOf(domain);
    if (source !== null && site !== null) this.#count(source, site);
    else if (queueId !== '') this.#ports.tell(`${ASKED}${queueId}`);
  }

  /** @returns false where the line is about something else. */
  heard(line: string): boolean {
    const [, source, site = ''] = line.split('\t');
    if (line.startsWith(COUNTED)) this.#ports.counted(source as string, site);
    else if (line.startsWith(ASKED)) {
      const known = this.#ports.sentBy(source as string);
      if (known !== null) this.#count(...known);
    } else return false;
    return true;
  }

  #count(source: string, site: string): void {
    this.#ports.counted(source, site);
    this.#ports.tell(`${COUNTED}${source}\t${site}`);
  }

  #sourceAt(address: string): string | null {
    if (address === '') return null;
    const { egress, delivery } = this.#ports.current();
    const found = egress.sources.find((one) => one.address === address);
    if (found !== undefined) return found.name;
    return delivery.source_address === address ? '' : null;
  }
}
