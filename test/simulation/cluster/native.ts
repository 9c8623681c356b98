/** Stands in for src/native.ts where memory for content is made. */
import type { Arena } from '../../../src/native.ts';
import { actor } from './clock.ts';
import { processOf } from './process.ts';

export * from '../../../src/native.ts';

export const createArena = (): Arena => processOf(actor()).arena;
