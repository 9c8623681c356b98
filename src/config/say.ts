/** Reports a problem, or a warning, about the key at that path. */
export type Say = (path: (string | number)[], message: string) => void;
