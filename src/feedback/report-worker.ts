/** Entry of the thread (piscina) that reads reports, and knows by the rules for replies what the failures in them mean. */
import { setPriority } from 'node:os';
import { workerData } from 'piscina';
import type { Verdict } from '../mail/verdict.ts';
import { type Report, readReport } from './report-reader.ts';
import type { RulesText } from './rules-text.ts';
import { ThreadReplies } from './thread-replies.ts';

/** Mail goes first. */
const NICE = 10;

if (process.platform === 'linux') {
  try {
    setPriority(0, NICE); // on Linux a priority is a thread's own
  } catch {
    // Not allowed here; there is one such thread, and its queue is bounded.
  }
}

export interface ReadReport {
  report: Report;
  /** What each failure means, in order. */
  verdicts: Verdict[];
}

const replies = new ThreadReplies(workerData as readonly RulesText[], 0, () => {});

/** @param head the first octets of what came. */
export default function read(head: Uint8Array): ReadReport {
  const report = readReport(Buffer.from(head.buffer, head.byteOffset, head.byteLength));
  const failures = report.kind === 'failed' ? report.failures : [];
  const verdicts = failures.map(({ code, enhanced, text, host }) =>
    replies.classify({ code, enhanced, text, peer: { host, address: '', port: 0, source: '' } }),
  );
  return { report, verdicts };
}
