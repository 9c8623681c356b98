/**
 * Which roots an object belongs to: rendezvous hashing (Thaler & Ravishankar 1998). Every root has a weight for the
 * object, and the heaviest take it: a root that comes or goes moves only the objects that are its own.
 */
import { crc32 } from 'node:zlib';

/** The roots, the heaviest for this object first. */
export function rank<R extends { path: string }>(object: string, roots: readonly R[]): R[] {
  const hash = crc32(object);
  return roots
    .map((root) => ({ root, weight: mix(hash ^ crc32(root.path)) }))
    .sort((a, b) => b.weight - a.weight)
    .map(({ root }) => root);
}

/** MurmurHash3's finalizer: without it the order of two roots would hang on one bit of the name's CRC. */
function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
