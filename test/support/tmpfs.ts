/** File systems of their own for tests of disks that fill, vanish or turn read-only. Root only. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { skipUnlessRoot } from './programs.ts';

export class Tmpfs {
  readonly path: string;
  #mounted = false;

  /** @param path made if it is missing. */
  constructor(path: string, sizeKb: number) {
    this.path = path;
    mkdirSync(path, { recursive: true });
    this.mount(sizeKb);
  }

  mount(sizeKb: number): void {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeKb}k`, 'tmpfs', this.path], { stdio: 'pipe' });
    this.#mounted = true;
  }

  makeReadOnly(isReadOnly: boolean): void {
    execFileSync('mount', ['-o', `remount,${isReadOnly ? 'ro' : 'rw'}`, this.path], { stdio: 'pipe' });
  }

  unmount(): void {
    if (this.#mounted) execFileSync('umount', ['-l', this.path], { stdio: 'pipe' });
    this.#mounted = false;
  }
}

/** The reason why nothing can be mounted here, or false. */
export function skipWithoutMount(): string | false {
  const notRoot = skipUnlessRoot();
  if (notRoot !== false) return notRoot;
  try {
    execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'pipe' });
    return false;
  } catch {
    return 'mounting is not permitted';
  }
}
