/**
 * A small WebHDFS client (Hadoop, WebHDFS REST API): the operations that storage needs, over several namenodes of which
 * one is active. Every call ends within its time. After a call that nobody answered, the next calls fail at once for a
 * while (rest.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { SayNote } from '../notes.ts';
import { Deadline } from './deadline.ts';
import { faultOfAnswer, faultOfError, WebHdfsFault } from './fault.ts';
import { Rest } from './rest.ts';
import { Uploader } from './upload.ts';

const API = '/webhdfs/v1';
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;
/** Most rounds over all namenodes in one call. */
const MAX_ROUNDS = 5;
/** Large contents get more time: any cluster is faster than this. */
const BYTES_PER_MS = 10_000;
/** Longest answer that is not content: JSON, or a page of a proxy. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export interface WebHdfsOptions {
  /** 'http://host:port' of the namenodes. */
  endpoints: string[];
  user: string;
  /** Used instead of the user where the cluster is secured. */
  delegationToken: string | null;
  timeoutMs: number;
  say: SayNote;
}

export interface FileStatus {
  name: string;
  isFolder: boolean;
  lengthBytes: number;
  modifiedMs: number;
}

interface Step {
  endpoint: string;
  signal: AbortSignal;
  /** Hosts of datanodes that failed in this call: the namenode is asked to name another. */
  avoid: string[];
}

/** What a call is for: a pause of writing does not stop reading. */
type Purpose = 'write' | 'read' | 'name';

type Params = Record<string, string | number | boolean>;

interface RawStatus {
  pathSuffix: string;
  type: string;
  length: number;
  modificationTime: number;
}

export class WebHdfs {
  readonly #options: WebHdfsOptions;
  #active = 0;
  readonly #rest = new Rest();
  readonly #writeRest = new Rest();
  readonly #uploader = new Uploader();

  constructor(options: WebHdfsOptions) {
    this.#options = options;
  }

  /** Ends idle connections. */
  close(): void {
    this.#uploader.close();
  }

  async mkdirs(path: string, permission: string): Promise<void> {
    await this.#call('write', 0, async (step) => {
      const answer = await this.#json(step, 'PUT', path, { op: 'MKDIRS', permission });
      if (answer.boolean !== true) throw new WebHdfsFault('refused', `MKDIRS ${path} answered false`);
    });
  }

  /**
   * Creates a file in two steps: the namenode names a datanode, and the bytes are sent there. An existing file of the
   * name is replaced, so that a try that broke off can be repeated.
   * @param body gives the bytes from the beginning each time it is called.
   */
  async create(
    path: string,
    options: { replication: number; permission: string; lengthBytes: number },
    body: () => Iterable<Uint8Array>,
  ): Promise<void> {
    const { replication, permission, lengthBytes } = options;
    await this.#call('write', lengthBytes, async (step) => {
      const params = { op: 'CREATE', overwrite: true, replication, permission };
      const target = await this.#redirect(step, 'PUT', path, params);
      await this.#upload(step, target, lengthBytes, body());
    });
  }

  /** Second step of CREATE, at the datanode. */
  async #upload(
    step: Step,
    target: string,
    lengthBytes: number,
    blocks: Iterable<Uint8Array>,
  ): Promise<void> {
    const datanode = hostOf(target);
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(lengthBytes) };
    try {
      const { status, text } = await this.#uploader.put(target, headers, blocks, step.signal);
      if (status !== 201) throw faultOfAnswer(`datanode ${datanode}`, status, text, { isOfOneFile: true });
    } catch (error) {
      throw faultOfError(error, `datanode ${datanode}`, datanode);
    }
  }

  /** Reads `count` bytes from `offset`, fewer at the end of the file, and gives them to `take` as they come. */
  async open(
    path: string,
    offset: number,
    count: number,
    take: (bytes: Uint8Array) => void,
    begin: () => void = () => {},
  ): Promise<void> {
    await this.#call('read', count, async (step) => {
      const target = await this.#redirect(step, 'GET', path, { op: 'OPEN', offset, length: count });
      begin();
      await download(step, target, take);
    });
  }

  /** @returns false when there was no such file. */
  async delete(path: string): Promise<boolean> {
    return await this.#call('name', 0, async (step) => {
      const answer = await this.#json(step, 'DELETE', path, { op: 'DELETE', recursive: false });
      return answer.boolean === true;
    });
  }

  /** The entries of a folder, in parts as the namenode gives them; none when there is no such folder. */
  async *list(path: string): AsyncGenerator<FileStatus> {
    for (let after = ''; ; ) {
      const page = await this.#page(path, after);
      if (page === null) return;
      yield* page.entries;
      const last = page.entries.at(-1);
      if (page.remaining === 0 || last === undefined) return;
      after = last.name;
    }
  }

  async #page(path: string, after: string): Promise<{ entries: FileStatus[]; remaining: number } | null> {
    try {
      return await this.#call('name', 0, async (step) => {
        const params = { op: 'LISTSTATUS_BATCH', ...(after === '' ? {} : { startAfter: after }) };
        const { DirectoryListing } = await this.#json(step, 'GET', path, params);
        const { partialListing, remainingEntries } = DirectoryListing as {
          partialListing: { FileStatuses: { FileStatus: RawStatus[] } };
          remainingEntries: number;
        };
        const entries = partialListing.FileStatuses.FileStatus.map(toStatus);
        return { entries, remaining: remainingEntries };
      });
    } catch (error) {
      if (error instanceof WebHdfsFault && error.kind === 'missing') return null;
      // Gateways, and clusters before Hadoop 2.9, do not know this operation.
      if (!(error instanceof WebHdfsFault) || error.kind !== 'refused') throw error;
    }
    return await this.#call('name', 0, async (step) => {
      const { FileStatuses } = await this.#json(step, 'GET', path, { op: 'LISTSTATUS' });
      const entries = (FileStatuses as { FileStatus: RawStatus[] }).FileStatus.map(toStatus);
      return { entries, remaining: 0 };
    });
  }

  /** Does one operation, at the active namenode first. Tries again while there is time and it may help. */
  async #call<T>(purpose: Purpose, bytes: number, work: (step: Step) => Promise<T>): Promise<T> {
    this.#rest.check();
    if (purpose === 'write') this.#writeRest.check();
    const limitMs = this.#options.timeoutMs + bytes / BYTES_PER_MS;
    const untilMs = performance.now() + limitMs;
    const avoid: string[] = [];
    for (let round = 1, pauseMs = FIRST_PAUSE_MS; ; round++) {
      const done = await this.#round(work, untilMs, avoid);
      if (!(done instanceof WebHdfsFault)) {
        if (purpose === 'write') this.#writeRest.end();
        return done.value;
      }
      if (round >= MAX_ROUNDS || performance.now() + pauseMs >= untilMs) throw this.#failed(done, purpose);
      await sleep(pauseMs * (0.5 + Math.random() / 2));
      pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 3);
    }
  }

  /** Asks one namenode after another; the last temporary fault when none could do it. Other faults are thrown. */
  async #round<T>(
    work: (step: Step) => Promise<T>,
    untilMs: number,
    avoid: string[],
  ): Promise<{ value: T } | WebHdfsFault> {
    const { endpoints } = this.#options;
    const first = this.#active;
    let met: WebHdfsFault | null = null;
    for (let i = 0; i < endpoints.length; i++) {
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0 && met !== null) break;
      const index = (first + i) % endpoints.length;
      const endpoint = endpoints[index] as string;
      // A namenode that hangs must leave time for another try, there or elsewhere.
      const deadline = new Deadline(leftMs / Math.max(2, endpoints.length - i));
      try {
        const value = await work({ endpoint, signal: deadline.signal, avoid });
        this.#answered(index);
        return { value };
      } catch (error) {
        const fault = faultOfError(error, hostOf(endpoint), null);
        if (!(fault instanceof WebHdfsFault)) throw fault;
        if (fault.kind === 'standby' || (fault.kind === 'unreachable' && fault.datanode === null)) {
          if (met === null || fault.kind === 'unreachable') met = fault; // of all faults, keep the one that says most
          continue;
        }
        this.#answered(index);
        if (!fault.isTemporary) throw fault;
        // Another namenode would answer no better, but another datanode may.
        if (fault.datanode !== null) avoid.push(fault.datanode.replace(/:\d+$/, ''));
        else avoid.length = 0; // perhaps only avoided datanodes were left
        return fault;
      } finally {
        deadline.end();
      }
    }
    return met as WebHdfsFault;
  }

  /** Notes that this namenode is the active one. */
  #answered(index: number): void {
    const { endpoints, say } = this.#options;
    const fields = { endpoint: hostOf(endpoints[index] as string) };
    if (this.#rest.end()) say({ event: 'storage.reachable', fields });
    if (index === this.#active) return;
    this.#active = index;
    say({ event: 'storage.endpoint_changed', fields });
  }

  #failed(fault: WebHdfsFault, purpose: Purpose): WebHdfsFault {
    const rest = fault.isOfOneFile ? (purpose === 'write' ? this.#writeRest : null) : this.#rest;
    if (rest?.begin(fault))
      this.#options.say({ event: 'storage.unreachable', fields: { error: fault.message } });
    return fault;
  }

  #url(step: Step, path: string, params: Params): string {
    const { user, delegationToken } = this.#options;
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(params)) query.set(name, String(value));
    if (delegationToken === null) query.set('user.name', user);
    else query.set('delegation', delegationToken);
    return `${step.endpoint}${API}${path.split('/').map(encodeURIComponent).join('/')}?${query}`;
  }

  async #json(step: Step, method: string, path: string, params: Params): Promise<Record<string, unknown>> {
    const response = await send(step, this.#url(step, path, params), { method });
    const text = await textOf(response);
    const who = hostOf(step.endpoint);
    if (response.status !== 200) throw faultOfAnswer(who, response.status, text);
    try {
      return JSON.parse(text) as Record<string, unknown>;
    } catch {
      throw new WebHdfsFault('refused', `${who} answers ${params.op} with something other than JSON`);
    }
  }

  /** First step of CREATE and OPEN: sends no body, and returns the redirect without following it. */
  async #redirect(step: Step, method: string, path: string, params: Params): Promise<string> {
    const { avoid } = step;
    const all = avoid.length === 0 ? params : { ...params, excludedatanodes: avoid.join(',') };
    const response = await send(step, this.#url(step, path, all), { method });
    const text = await textOf(response);
    const who = hostOf(step.endpoint);
    if (response.status !== 307) throw faultOfAnswer(who, response.status, text);
    const location = response.headers.get('location') ?? '';
    if (!URL.canParse(location) || !/^https?:/.test(location))
      throw new WebHdfsFault('refused', `${who} redirects to no datanode`);
    return location;
  }
}

/** Second step of OPEN, at the datanode. */
async function download(step: Step, target: string, take: (bytes: Uint8Array) => void): Promise<void> {
  const datanode = hostOf(target);
  try {
    const response = await send(step, target, { method: 'GET' });
    if (response.status !== 200) {
      const text = await textOf(response);
      throw faultOfAnswer(`datanode ${datanode}`, response.status, text, { isOfOneFile: true });
    }
    for await (const bytes of response.body ?? []) take(bytes);
  } catch (error) {
    throw faultOfError(error, `datanode ${datanode}`, datanode);
  }
}

async function send(step: Step, url: string, init: RequestInit): Promise<Response> {
  const headers = { 'accept-encoding': 'identity' };
  return await fetch(url, { ...init, headers, redirect: 'manual', signal: step.signal });
}

/** Reads the whole answer, so that its connection is free again. */
async function textOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > MAX_ANSWER_BYTES) throw new WebHdfsFault('refused', 'an answer is longer than 16 MiB');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function toStatus({ pathSuffix, type, length, modificationTime }: RawStatus): FileStatus {
  return {
    name: pathSuffix,
    isFolder: type === 'DIRECTORY',
    lengthBytes: length,
    modifiedMs: modificationTime,
  };
}

/** The host of a URL, without path and query, so that no token gets into a message. */
function hostOf(url: string): string {
  return new URL(url).host;
}
