/** Lines that the processes of all nodes tell each other, where they share a Redis. What was said while one was away, it does not hear. */

export interface SharedNews {
  readonly up: boolean;
  /** Tells all others. @throws when it cannot. */
  tell(lines: readonly string[]): Promise<void>;
  /** What others said since it was asked last. @throws when it cannot. */
  hear(): Promise<string[]>;
}
