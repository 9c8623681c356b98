/** Loads the C++ addon and declares its functions. Imported by src/native.ts and this folder alone. */
import { createRequire } from 'node:module';

/** An object of the addon, opaque here. */
export type Native = unknown;

/** The functions of native/addon_*.cc. */
export interface Addon {
  limits: { maxConnections: number; minLineBytes: number; maxLineBytes: number };
  buildInfo(): { compiler: string; sanitizer: string };
  alignedBuffer(bytes: number): Buffer;
  arenaCreate(memory: Buffer, spillDir: string): Native;
  arenaAttach(memory: Buffer, spillDir: string): Native;
  arenaStore(arena: Native, bytes: Uint8Array): number;
  arenaStoreFile(arena: Native, fd: number, offset: number, lengthBytes: number): number;
  arenaRelease(arena: Native, handle: number): void;
  reactorCreate(options: object): Native;
  reactorId(reactor: Native): number;
  reactorFlush(reactor: Native): void;
  reactorUseBytes(reactor: Native, bytes: Buffer): void;
  reactorConnect(
    reactor: Native,
    address: string,
    port: number,
    source: string,
    timeoutMs: number,
    kind?: number,
    request?: Uint8Array,
    credentials?: Uint8Array,
  ): number;
  reactorConnections(reactor: Native): number;
  reactorDestroy(reactor: Native): void;
  reactorLoad(id: number): number;
  listenOpen(options: object): number;
  listenPlace(fd: number): string;
  acceptorCreate(options: object): Native;
  acceptorPort(acceptor: Native): number;
  acceptorHandOff(acceptor: Native, fd: number, reactorId: number, address: string): boolean;
  acceptorRefuse(acceptor: Native, fd: number, reply: string): void;
  acceptorPause(acceptor: Native, paused: boolean): void;
  acceptorClose(acceptor: Native): void;
  sharedMemoryCreate(bytes: number): number;
  sharedMemoryMap(fd: number, bytes: number): ArrayBuffer | number;
  tlsSlot(): number;
  tlsConfigure(slot: number, setup: object): string;
  tlsClear(slot: number): void;
  tlsSelfSigned(
    names: readonly string[],
    days: number,
    rsa: boolean,
  ): { certificate: string; key: string } | null;
  dkimKeyOpen(pem: string, domain: string, selector: string): number;
  dkimKeyClose(slot: number): void;
  dkimRules(names: readonly string[], oversigned: readonly number[]): Native;
  signerCreate(arena: Native, done: (results: (number | string)[]) => void): Native;
  signerAdd(
    signer: Native,
    ticket: number,
    content: number,
    before: string,
    slots: readonly number[],
    rules: Native,
    signedAt: number,
    expiresAt: number,
  ): boolean;
  signerFlush(signer: Native): void;
  signerClose(signer: Native): void;
  signingThreads(count: number): void;
  bodyHashesComputed(): number;
  relaxedForms(content: Buffer, pieceBytes: number): { header: Buffer; body: Buffer };
  datagramSend(path: string, text: string): number;
  pamAuthenticate(
    service: string,
    configDir: string,
    username: string,
    password: string,
    client: string,
  ): number;
  scanContent(
    input: Buffer,
    pieceBytes: number,
    dots: boolean,
    normalize: boolean,
    maxLineBytes: number,
  ): {
    content: Buffer;
    consumed: number;
    flags: number;
    trace: number;
    messageIdAt: number;
    contentTypeAt: number;
    marked: boolean;
    ended: boolean;
  };
  stuffContent(content: Buffer, pieceBytes: number, writtenBytes: number): Buffer;
  proxyExtent(input: Buffer): number;
  scanLine(
    input: Buffer,
    maxLineBytes: number,
  ): { length: number; consumed: number; flags: number; changesReading: boolean };
}

/** PROTORELAY_ADDON: Release (default), Debug or Sanitize, as built by build.sh. */
export const addon = createRequire(import.meta.url)(
  `../../build/${process.env.PROTORELAY_ADDON ?? 'Release'}/protorelay.node`,
) as Addon;
