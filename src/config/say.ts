/** What is said of a key: what is wrong or odd about it, and what to write instead where that does not follow. */
export interface Finding {
  /** The key, from the top of the config. */
  path: readonly (string | number)[];
  message: string;
  mend?: string;
}

/** Reports a problem, or a warning, about the key at that path. */
export type Say = (path: Finding['path'], message: string, mend?: string) => void;
