/**
 * Which hosts a destination has, which of them failed lately, and so which are tried first (RFC 5321 §5.1). Because of
 * this memory a later attempt begins with another host.
 */
import type { Config } from '../config/schema.ts';
import { FailedHosts } from './remembered-hosts.ts';
import type { Host } from './route.ts';

export interface HostChoicePorts {
  readonly rules: Config['delivery'];
  now(): number;
}

export class HostChoice {
  readonly #ports: HostChoicePorts;
  /** The hosts of the last route. */
  #hosts: readonly Host[] = [];
  readonly #failed = new FailedHosts();
  #apartUntilMs = 0;

  constructor(ports: HostChoicePorts) {
    this.#ports = ports;
  }

  /**
   * The hosts of a new route in the order to try them; those that failed lately come last. @param avoid addresses to
   * leave out.
   */
  order(hosts: readonly Host[], avoid: readonly string[]): Host[] {
    this.#hosts = hosts;
    const nowMs = this.#ports.now();
    const failed = ({ address }: Host) => (this.#failed.has(address, nowMs) ? 1 : 0);
    return hosts.filter(({ address }) => !avoid.includes(address)).sort((a, b) => failed(a) - failed(b));
  }

  /** Of hosts in this order, those that may be chosen first as well. */
  best([first, ...others]: readonly Host[]): Host[] {
    if (first === undefined) return [];
    const nowMs = this.#ports.now();
    const isAsGood = ({ preference, address }: Host): boolean =>
      preference === first.preference && !this.#failed.has(address, nowMs);
    return [first, ...others.filter(isAsGood)];
  }

  /** The host gave no session. */
  unreachable(address: string): void {
    const nowMs = this.#ports.now();
    const { suspend_ms, failed_host_ttl_ms } = this.#ports.rules;
    const untilMs = nowMs + Math.max(suspend_ms, failed_host_ttl_ms);
    this.#failed.unreachable(address, untilMs, nowMs + suspend_ms);
  }

  /** The host did not take what it was given. */
  failed(address: string): void {
    this.#failed.failed(address, this.#ports.now() + this.#ports.rules.failed_host_ttl_ms);
  }

  /** Connections that were opened for other domains are not used for a while. */
  keepApart(): void {
    const { suspend_ms, failed_host_ttl_ms } = this.#ports.rules;
    this.#apartUntilMs = this.#ports.now() + Math.max(suspend_ms, failed_host_ttl_ms);
  }

  get isApart(): boolean {
    return this.#apartUntilMs > this.#ports.now();
  }

  reached(address: string): void {
    this.#failed.reached(address);
  }

  works(address: string): void {
    this.#failed.works(address);
  }

  /** Whether anything is remembered. */
  get remembers(): boolean {
    return this.isApart || this.#failed.any(this.#ports.now());
  }

  /** Whether there is a host besides these that can be reached, as far as we know. */
  hasOthers(tried: readonly string[]): boolean {
    const nowMs = this.#ports.now();
    return this.#hosts.some(
      ({ address }) => !tried.includes(address) && !this.#failed.isUnreachable(address, nowMs),
    );
  }

  /** Whether there is a host besides these, reachable or not. */
  namesOthers(tried: readonly string[]): boolean {
    return this.#hosts.some(({ address }) => !tried.includes(address));
  }

  /** Whether there is a host besides this one that did not fail lately. */
  hasGoodBeside(failed: string): boolean {
    const nowMs = this.#ports.now();
    return this.#hosts.some(({ address }) => address !== failed && !this.#failed.has(address, nowMs));
  }
}
