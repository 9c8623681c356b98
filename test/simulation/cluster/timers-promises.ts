/** Stands in for node:timers/promises: the world's time. */
export function setTimeout<T>(delayMs: number, value?: T, options?: { signal?: AbortSignal }): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = globalThis.setTimeout(() => resolve(value as T), delayMs);
    options?.signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(options.signal?.reason);
    });
  });
}
