/**
 * How far a row is suspected of ending the process that sends it: column `deaths` of the outbox. A node that takes a
 * row over from a silent node does not know whether its attempt had begun there. How a suspect is sent is written
 * down before it is sent, so that after a death every node knows it, even if that process never starts again.
 */
export const SUSPICION = {
  /** Taken over, and not sent since. Only in jobs: in a row the state says it. */
  takenOver: 0,
  /** Taken over, and being sent together with other such rows. */
  inCompany: 1,
  /** It was under way when a process died, and is to be sent alone. */
  suspect: 2,
  /** It is being sent alone: should the process die now, it is held. */
  alone: 3,
} as const;

/** How a suspect is about to be sent; written down before. */
export interface SuspectMark {
  queueId: string;
  destination: string;
  fence: number;
  suspicion: number;
}
