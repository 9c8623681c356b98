/**
 * A time of day that a test sets for one program: a library put before libc's adds what a file says to the real time,
 * from one call to the next. Steady time is left as it is, as when a clock is set.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { compilerHere } from '../fuzz/native-program.ts';

const SOURCE = `
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static int (*now_of)(clockid_t, struct timespec *);
static volatile const long long *shift_ms;
static void find(void) {
  now_of = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  const char *path = getenv("CLOCK_SHIFT_FILE");
  int fd = path ? open(path, O_RDONLY) : -1;
  void *page = fd < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) shift_ms = (const long long *)page;
}
extern "C" int clock_gettime(clockid_t id, struct timespec *at) noexcept {
  if (!now_of) find();
  int result = now_of(id, at);
  if (result == 0 && shift_ms && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    long long ns = at->tv_nsec + *shift_ms % 1000 * 1000000;
    at->tv_sec += *shift_ms / 1000 + (ns < 0 ? -1 : ns / 1000000000);
    at->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
  }
  return result;
}
extern "C" int gettimeofday(struct timeval *at, void *) noexcept {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
extern "C" time_t time(time_t *at) noexcept {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
`;

export class ShiftedClock {
  /** For the program's environment. */
  readonly env: Record<string, string>;
  readonly #fd: number;

  constructor(t: TestContext) {
    const dir = mkdtempSync(join(tmpdir(), 'clock-'));
    const [source, library, file] = ['clock.cc', 'clock.so', 'shift'].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(source, SOURCE);
    execFileSync(compilerHere(), ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'], {
      env: { ...process.env, LD_PRELOAD: '' },
    });
    this.#fd = openSync(file, 'w+');
    this.set(0);
    this.env = { LD_PRELOAD: library, CLOCK_SHIFT_FILE: file };
    t.after(() => {
      closeSync(this.#fd);
      rmSync(dir, { recursive: true });
    });
  }

  /** From now on it is so much later there. */
  set(shiftMs: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(shiftMs));
    writeSync(this.#fd, bytes, 0, 8, 0);
  }
}
