/** The facts that a DSN reports. */
import type { Job } from '../mail/job.ts';
import type { PeerReply } from '../mail/outcome.ts';

export interface DsnRecipient {
  address: string;
  /** As the client gave it. */
  orcpt?: string;
  action: 'failed' | 'delayed' | 'relayed';
  status: string;
  reply?: PeerReply;
  detail?: string;
  lastAttemptMs: number;
  willRetryUntilMs?: number;
}

export interface Returned {
  part: 'message' | 'headers';
  bytes: Buffer;
}

export interface ReportInput {
  hostname: string;
  queueId: string;
  nowMs: number;
  original: Pick<Job, 'queueId' | 'reversePath' | 'receivedAtMs' | 'envid' | 'smtpUtf8'>;
  recipients: readonly DsnRecipient[];
  returned: Returned | null;
}
