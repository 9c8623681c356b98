import { join } from 'node:path';

/** Where the relay that runs on a data folder listens for operators. */
export const controlPathIn = (dataDir: string): string => join(dataDir, 'control.sock');
