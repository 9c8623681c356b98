/** The refusal in what the queue says of an entry: '451 4.7.1 try later (mx1.example.net [192.0.2.1])', perhaps behind other words. */
import type { Refusal } from './classifier.ts';

/** Reasons whose detail has the reply. */
const OF_REPLIES = /^(?:peer_4xx|peer_5xx|peer_refused|tls_failed|expired|retry_disabled|deadline_passed)$/;
const REPLY = /(?:^|[:,] )([45]\d\d) (?:([45]\.\d{1,3}\.\d{1,3}) )?/;
/** The host behind it: its name, or its address alone. */
const PEER = / \((?:([^\s()[\]]{1,255}) )?\[[0-9a-f.:]{2,45}\]\)?$/i;

/** null: there is none. */
export function storedRefusal(reason: string, detail: string): { refusal: Refusal; host: string } | null {
  const match = OF_REPLIES.test(reason) ? REPLY.exec(detail) : null;
  if (match === null) return null;
  const [whole, code, enhanced = ''] = match;
  const rest = detail.slice(match.index + whole.length);
  const peer = PEER.exec(rest);
  const text = peer === null ? rest : rest.slice(0, peer.index);
  return { refusal: { code: Number(code), enhanced, text }, host: peer?.[1] ?? '' };
}
