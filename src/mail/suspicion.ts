/**
 * How far a row is suspected of ending the process that sends it: column `deaths` of the outbox. Who takes a row over
 * from a node that fell silent does not know whether its attempt had begun there. What a suspect goes out as is written
 * down before it does, so that whoever comes after a death knows it, whether or not that process starts again.
 */
export const SUSPICION = {
  /** Taken over, and not sent since. In the jobs only: a row has it by its state. */
  takenOver: 0,
  /** Taken over, and sent at the same time as others of its kind. */
  inCompany: 1,
  /** It was under way when a process died: it goes out alone. */
  suspect: 2,
  /** It is out alone: should the process die now, it is held. */
  alone: 3,
} as const;

/** How a suspect goes out, to be written down before. */
export interface SuspectMark {
  queueId: string;
  destination: string;
  fence: number;
  suspicion: number;
}
