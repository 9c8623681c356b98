/**
 * Which roots an object belongs to, by rendezvous hashing (Thaler & Ravishankar 1998). Every root has a weight for the
 * object, and the heaviest take it: when a root comes or goes, only its own objects move.
 */
import { crc32 } from 'node:zlib';

/** The roots, with the heaviest for this object first. */
export function rank<R extends { path: string }>(object: string, roots: readonly R[]): R[] {
  const hash = crc32(object);
  return roots
    .map((root) => ({ root, weight: mix(hash ^ crc32(root.path)) }))
    .sort((a, b) => b.weight - a.weight)
    .map(({ root }) => root);
}

/** MurmurHash3's finalizer: without it, one bit of the name's CRC would decide the order of two roots. */
function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
