/** JSON Merge Patch (RFC 7396) of files, each value with the place where it stands. */
import type { Node } from '../config/jsonc.ts';

export function mergePatch(target: Node | undefined, patch: Node): Node {
  if (patch.kind !== 'object') return patch;
  const entries = new Map(target?.kind === 'object' ? target.entries : []);
  for (const [key, node] of patch.entries)
    if (node.kind === 'scalar' && node.value === null) entries.delete(key);
    else entries.set(key, mergePatch(entries.get(key), node));
  return { kind: 'object', place: patch.place, entries };
}
