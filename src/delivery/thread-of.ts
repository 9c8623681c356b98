/** FNV-1a over the name: stable, so a destination keeps its thread, and with it its connections. */
export function threadOf(destination: string, threads: number): number {
  if (threads === 1) return 0;
  let hash = 0x811c9dc5;
  for (let i = 0; i < destination.length; i++) hash = Math.imul(hash ^ destination.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % threads;
}
