/**
 * What all share is no longer what it has to be: a count of references, the ring, a group commit. Nothing may go on with
 * it, so the barriers around dialogs let this error through, and the process ends (base/crash.ts). Any other error in
 * a dialog is that dialog's alone.
 */
export class BrokenInvariant extends Error {
  override readonly name = 'BrokenInvariant';
}
