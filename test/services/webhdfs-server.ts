/**
 * A WebHDFS cluster in this process: namenodes and datanodes on loopback, files in memory. Strict: every request is
 * held against the REST specification (method, operation, parameters and their form, authentication, the two steps of
 * CREATE and OPEN), and what breaks it is answered with 400 and remembered in `violations`. Faults are injected by a
 * function that sees each request first.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface Seen {
  where: 'namenode' | 'datanode';
  index: number;
  method: string;
  op: string;
  path: string;
  params: Record<string, string>;
  bodyBytes: number;
}

/**
 * An answer instead of the right one; 'hang' answers never, 'reset' ends the connection at once, 'reset-in-body'
 * in the middle of the content, 'dead-datanode' redirects to a port nobody listens on.
 */
export type Fault =
  | { status: number; exception?: string; message?: string; text?: string }
  | 'hang'
  | 'reset'
  | 'reset-in-body'
  | 'dead-datanode'
  | 'short-body';

interface File {
  bytes: Buffer;
  permission: string;
  replication: number;
  modifiedMs: number;
}

export interface WebHdfsServerOptions {
  user?: string;
  /** With it, requests carry the token instead of the user. */
  token?: string;
  namenodes?: number;
  datanodes?: number;
  /** Entries in one answer of LISTSTATUS_BATCH. */
  pageSize?: number;
}

const ALWAYS = ['op', 'user.name', 'delegation'];
const FORMS: Record<string, RegExp> = {
  overwrite: /^(true|false)$/,
  recursive: /^(true|false)$/,
  permission: /^[0-7]{3,4}$/,
  replication: /^[1-9]\d*$/,
  offset: /^\d+$/,
  length: /^\d+$/,
  startAfter: /^[^/]+$/,
  excludedatanodes: /^[^,]+(,[^,]+)*$/,
};
/** Method and parameters of each operation. */
const OPERATIONS: Record<string, { method: string; params: string[]; needs: string[] }> = {
  MKDIRS: { method: 'PUT', params: ['permission'], needs: [] },
  CREATE: {
    method: 'PUT',
    params: ['overwrite', 'replication', 'permission', 'excludedatanodes'],
    needs: ['overwrite', 'replication', 'permission'],
  },
  OPEN: { method: 'GET', params: ['offset', 'length', 'excludedatanodes'], needs: ['offset', 'length'] },
  DELETE: { method: 'DELETE', params: ['recursive'], needs: ['recursive'] },
  GETFILESTATUS: { method: 'GET', params: [], needs: [] },
  LISTSTATUS: { method: 'GET', params: [], needs: [] },
  LISTSTATUS_BATCH: { method: 'GET', params: ['startAfter'], needs: [] },
};

class Refusal extends Error {
  readonly status: number;
  readonly exception: string;

  constructor(status: number, exception: string, message: string) {
    super(message);
    this.status = status;
    this.exception = exception;
  }
}

export class WebHdfsServer {
  readonly files = new Map<string, File>();
  readonly folders = new Map<string, string>([['/', '755']]);
  readonly violations: string[] = [];
  readonly seen: Seen[] = [];
  /** The namenode that is active; the others are standby. */
  active = 0;
  fault: (request: Seen) => Fault | undefined = () => undefined;
  readonly #options: Required<Omit<WebHdfsServerOptions, 'token'>> & { token: string | null };
  readonly #namenodes: Server[] = [];
  readonly #datanodes: Server[] = [];
  readonly #sockets = new Set<Socket>();
  #nextDatanode = 0;

  constructor(options: WebHdfsServerOptions = {}) {
    this.#options = {
      user: 'hdfs',
      namenodes: 1,
      datanodes: 1,
      pageSize: 1000,
      ...options,
      token: options.token ?? null,
    };
  }

  async start(): Promise<this> {
    for (let i = 0; i < this.#options.namenodes; i++) this.#namenodes.push(await this.#listen('namenode', i));
    for (let i = 0; i < this.#options.datanodes; i++) this.#datanodes.push(await this.#listen('datanode', i));
    return this;
  }

  get endpoints(): string[] {
    return this.#namenodes.map((server) => `http://127.0.0.1:${portOf(server)}`);
  }

  async stop(): Promise<void> {
    for (const server of [...this.#namenodes, ...this.#datanodes]) server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Paths of all files. */
  get paths(): string[] {
    return [...this.files.keys()].sort();
  }

  requests(op: string, where?: Seen['where']): Seen[] {
    return this.seen.filter((one) => one.op === op && (where === undefined || one.where === where));
  }

  async #listen(where: Seen['where'], index: number): Promise<Server> {
    const server = createServer((request, response) => {
      this.#serve(where, index, request, response).catch((error: unknown) => {
        if (error instanceof Refusal) this.#refuse(response, error);
        else if (!response.destroyed) response.destroy(error as Error);
      });
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    const host = where === 'datanode' ? hostName(index) : '127.0.0.1';
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    return server;
  }

  #refuse(response: ServerResponse, { status, exception, message }: Refusal): void {
    this.#json(response, status, {
      RemoteException: { exception, javaClassName: `org.apache.hadoop.test.${exception}`, message },
    });
  }

  #json(response: ServerResponse, status: number, value: unknown): void {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  }

  async #serve(
    where: Seen['where'],
    index: number,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const url = new URL(request.url ?? '', 'http://any');
    const params = Object.fromEntries(url.searchParams);
    const seen: Seen = {
      where,
      index,
      method: request.method ?? '',
      op: params.op ?? '',
      path: decodeURIComponent(url.pathname.replace(/^\/webhdfs\/v1/, '')),
      params,
      bodyBytes: 0,
    };
    this.seen.push(seen);
    const fault = this.fault(seen);
    if (fault === 'hang') return;
    if (fault === 'reset') {
      request.socket.destroy();
      return;
    }
    this.#check(seen, url, request);
    // As Hadoop's datanode does, whether the client expects it or not.
    if (where === 'datanode' && seen.op === 'CREATE') response.writeContinue();
    if (fault === 'reset-in-body' && seen.op === 'CREATE') {
      request.once('data', () => request.socket.destroy());
      return;
    }
    const body: Buffer[] = [];
    for await (const part of request) body.push(part as Buffer);
    const bytes = Buffer.concat(body);
    seen.bodyBytes = bytes.length;
    if (typeof fault === 'object') {
      if (fault.text !== undefined) response.writeHead(fault.status).end(fault.text);
      else
        this.#refuse(
          response,
          new Refusal(fault.status, fault.exception ?? 'IOException', fault.message ?? 'injected'),
        );
      return;
    }
    if (where === 'datanode') this.#datanode(seen, bytes, request, response, fault);
    else this.#namenode(seen, bytes, response, fault);
  }

  /** What the specification says of any request. */
  #check(seen: Seen, url: URL, request: IncomingMessage): void {
    const rule = OPERATIONS[seen.op];
    if (!url.pathname.startsWith('/webhdfs/v1/')) this.#violated(seen, `path ${url.pathname}`);
    if (rule === undefined) this.#violated(seen, 'unknown operation');
    if (rule.method !== seen.method) this.#violated(seen, `method ${seen.method}`);
    const names = [...url.searchParams.keys()];
    if (new Set(names).size !== names.length) this.#violated(seen, 'a parameter stands twice');
    const known = [...ALWAYS, ...rule.params, ...(seen.where === 'datanode' ? ['namenoderpcaddress'] : [])];
    for (const [name, value] of url.searchParams) {
      if (!known.includes(name)) this.#violated(seen, `parameter ${name}`);
      if (FORMS[name]?.test(value) === false) this.#violated(seen, `parameter ${name}=${value}`);
    }
    for (const name of rule.needs) if (!names.includes(name)) this.#violated(seen, `no parameter ${name}`);
    this.#authenticate(seen);
    if (seen.where === 'datanode' && seen.params.namenoderpcaddress !== 'nn:8020')
      this.#violated(seen, 'no redirect of a namenode led here');
    const { headers } = request;
    const mayHaveBody = seen.where === 'datanode' && seen.op === 'CREATE';
    if (
      !mayHaveBody &&
      (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0')
    )
      this.#violated(seen, 'a body where none belongs');
    if (mayHaveBody && headers['content-type'] !== 'application/octet-stream')
      this.#violated(seen, `content-type ${headers['content-type']}`);
    if (headers.expect !== undefined) this.#violated(seen, 'expect');
  }

  #violated(seen: Seen, what: string): never {
    this.violations.push(`${seen.where} ${seen.method} ${seen.op} ${seen.path}: ${what}`);
    throw new Refusal(400, 'IllegalArgumentException', `Invalid: ${what}`);
  }

  #authenticate(seen: Seen): void {
    const { user, token } = this.#options;
    const { delegation, 'user.name': name } = seen.params;
    if (token === null) {
      if (delegation !== undefined) this.#violated(seen, 'a token, and security is off');
      if (name === undefined) this.#violated(seen, 'no user.name');
      if (name !== user) throw new Refusal(403, 'AccessControlException', `Permission denied: user=${name}`);
    } else {
      if (name !== undefined) this.#violated(seen, 'user.name beside a token');
      if (delegation !== token)
        throw new Refusal(401, 'SecurityException', 'Failed to obtain user group information: invalid token');
    }
  }

  #namenode(seen: Seen, body: Buffer, response: ServerResponse, fault: Fault | undefined): void {
    if (seen.index !== this.active)
      throw new Refusal(403, 'StandbyException', 'Operation category READ is not supported in state standby');
    if (body.length > 0) this.#violated(seen, 'a body for the namenode');
    const { path, params } = seen;
    switch (seen.op) {
      case 'MKDIRS':
        this.#mkdirs(path, params.permission ?? '755');
        this.#json(response, 200, { boolean: true });
        break;
      case 'DELETE':
        this.#json(response, 200, { boolean: this.#delete(path, params.recursive === 'true') });
        break;
      case 'GETFILESTATUS':
        this.#json(response, 200, { FileStatus: this.#status(path, '') });
        break;
      case 'LISTSTATUS':
        this.#json(response, 200, { FileStatuses: { FileStatus: this.#entries(path) } });
        break;
      case 'LISTSTATUS_BATCH': {
        const after = params.startAfter ?? '';
        const rest = this.#entries(path).filter(({ pathSuffix }) => (pathSuffix as string) > after);
        const page = rest.slice(0, this.#options.pageSize);
        this.#json(response, 200, {
          DirectoryListing: {
            partialListing: { FileStatuses: { FileStatus: page } },
            remainingEntries: rest.length - page.length,
          },
        });
        break;
      }
      default:
        this.#redirect(seen, response, fault);
    }
  }

  #redirect(seen: Seen, response: ServerResponse, fault: Fault | undefined): void {
    const { path, params, op } = seen;
    if (op === 'OPEN') {
      const file = this.#file(path);
      if (Number(params.offset) > 0 && Number(params.offset) >= file.bytes.length)
        throw new Refusal(
          403,
          'IOException',
          `Offset=${params.offset} out of the range [0, ${file.bytes.length})`,
        );
    }
    if (op === 'CREATE' && this.folders.has(path))
      throw new Refusal(403, 'FileAlreadyExistsException', `${path} already exists as a directory`);
    const { excludedatanodes, ...carried } = params;
    const avoid = (excludedatanodes ?? '').split(',');
    const alive = this.#datanodes.filter((_, i) => !avoid.includes(hostName(i)));
    const datanode = alive[this.#nextDatanode++ % alive.length];
    if (datanode === undefined)
      throw new Refusal(403, 'IOException', `Failed to find datanode, excludeDatanodes=${excludedatanodes}`);
    const port = fault === 'dead-datanode' ? 1 : portOf(datanode);
    const host = hostName(this.#datanodes.indexOf(datanode));
    const query = new URLSearchParams({ ...carried, namenoderpcaddress: 'nn:8020' });
    const location = `http://${host}:${port}/webhdfs/v1${encodeURI(path)}?${query}`;
    response.writeHead(307, { location, 'content-length': 0 }).end();
  }

  #datanode(
    { op, path, params }: Seen,
    bytes: Buffer,
    request: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): void {
    if (op === 'CREATE') {
      const length = request.headers['content-length'];
      if (length !== undefined && Number(length) !== bytes.length)
        throw new Refusal(400, 'IOException', 'cut off');
      if (this.files.has(path) && params.overwrite === 'false')
        throw new Refusal(403, 'FileAlreadyExistsException', `${path} for client 127.0.0.1 already exists`);
      this.#mkdirs(path.slice(0, path.lastIndexOf('/')), '755');
      this.files.set(path, {
        bytes,
        permission: params.permission as string,
        replication: Number(params.replication),
        modifiedMs: Date.now(),
      });
      response.writeHead(201, { location: `webhdfs://nn:8020${path}`, 'content-length': 0 }).end();
      return;
    }
    const offset = Number(params.offset);
    const content = this.#file(path).bytes.subarray(offset, offset + Number(params.length));
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': content.length });
    if (fault === 'reset-in-body') {
      response.write(content.subarray(0, content.length >> 1), () => request.socket.destroy());
    } else response.end(content);
  }

  #file(path: string): File {
    const file = this.files.get(path);
    if (file === undefined) throw new Refusal(404, 'FileNotFoundException', `File does not exist: ${path}`);
    return file;
  }

  #mkdirs(path: string, permission: string): void {
    let at = '';
    for (const name of path.split('/').slice(1)) {
      at += `/${name}`;
      if (this.files.has(at))
        throw new Refusal(403, 'ParentNotDirectoryException', `${at} is not a directory`);
      if (!this.folders.has(at)) this.folders.set(at, permission);
    }
  }

  #delete(path: string, recursive: boolean): boolean {
    if (this.files.delete(path)) return true;
    if (!this.folders.has(path)) return false;
    const below = [...this.files.keys(), ...this.folders.keys()].filter((one) => one.startsWith(`${path}/`));
    if (below.length > 0 && !recursive)
      throw new Refusal(403, 'PathIsNotEmptyDirectoryException', `${path} is non empty`);
    for (const one of [path, ...below]) if (!this.files.delete(one)) this.folders.delete(one);
    return true;
  }

  #entries(path: string): Record<string, unknown>[] {
    if (this.files.has(path)) return [this.#status(path, '')];
    if (!this.folders.has(path))
      throw new Refusal(404, 'FileNotFoundException', `File ${path} does not exist.`);
    const names = [...this.files.keys(), ...this.folders.keys()]
      .filter((one) => one !== '/' && one.slice(0, one.lastIndexOf('/')) === path.replace(/\/$/, ''))
      .map((one) => one.slice(one.lastIndexOf('/') + 1));
    return names.sort().map((name) => this.#status(`${path}/${name}`, name));
  }

  #status(path: string, pathSuffix: string): Record<string, unknown> {
    const isFolder = this.folders.has(path);
    const file = isFolder ? null : this.#file(path);
    return {
      accessTime: 0,
      blockSize: isFolder ? 0 : 134_217_728,
      group: 'supergroup',
      length: file?.bytes.length ?? 0,
      modificationTime: file?.modifiedMs ?? 0,
      owner: this.#options.user,
      pathSuffix,
      permission: file?.permission ?? this.folders.get(path),
      replication: file?.replication ?? 0,
      type: isFolder ? 'DIRECTORY' : 'FILE',
    };
  }
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** Datanodes have hosts of their own, so that one can be left out by name; loopback all the same. */
function hostName(datanode: number): string {
  return `127.0.0.${datanode + 1}`;
}
