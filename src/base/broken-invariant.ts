/**
 * Something that all share is broken: a count of references, the ring, a group commit. Nothing may go on with it, so the
 * barriers around dialogs let this error pass, and the process ends (base/crash.ts). Any other error in a dialog concerns
 * that dialog alone.
 */
export class BrokenInvariant extends Error {
  override readonly name = 'BrokenInvariant';
}
