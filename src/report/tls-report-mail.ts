/** A TLS report as RFC 8460 sends it: the JSON itself (§4.4), its file name (§5.1), and the mail around it (§5.3). Pure. */
import { gzipSync } from 'node:zlib';
import { formatDate } from '../protocol/date.ts';
import type { PolicyReport } from './tls-rpt.ts';

export interface TlsReportParts {
  domain: string;
  /** '2026-01-31', in UTC. */
  day: string;
  policies: readonly PolicyReport[];
  organization: string;
  contact: string;
  reportId: string;
}

/** The report as one JSON text, compressed. Fields that are not known are left out. */
export function gzipReport({ day, policies, organization, contact, reportId }: TlsReportParts): Buffer {
  const report = {
    'organization-name': organization,
    'date-range': { 'start-datetime': `${day}T00:00:00Z`, 'end-datetime': `${day}T23:59:59Z` },
    'contact-info': contact,
    'report-id': reportId,
    policies: policies.map(({ policy, summary, 'failure-details': details }) => ({
      policy,
      summary,
      ...(details.length === 0 ? {} : { 'failure-details': details }),
    })),
  };
  return gzipSync(JSON.stringify(report, (_, value) => (value === '' ? undefined : value)));
}

export interface TlsReportMail extends Pick<TlsReportParts, 'domain' | 'day' | 'reportId'> {
  from: string;
  to: string;
  nowMs: number;
  /** As gzipReport makes it. */
  report: Buffer;
}

/** The whole message. The grammar of its addresses and names allows no line ends. */
export function writeReportMail(mail: TlsReportMail): Buffer {
  const { from, to, domain, day, reportId, nowMs, report } = mail;
  const submitter = from.slice(from.lastIndexOf('@') + 1);
  const fromS = Date.parse(`${day}T00:00:00Z`) / 1000;
  const file = `${submitter}!${domain}!${fromS}!${fromS + 86_399}.json.gz`;
  const boundary = `=_tlsrpt_${fromS}_${nowMs.toString(36)}`;
  return Buffer.from(
    [
      `Date: ${formatDate(nowMs)}`,
      `From: <${from}>`,
      `To: <${to}>`,
      `Subject: Report Domain: ${domain}`,
      `\tSubmitter: ${submitter}`,
      `\tReport-ID: <${reportId}>`,
      `Message-ID: <${nowMs.toString(36)}.${reportId}>`,
      `TLS-Report-Domain: ${domain}`,
      `TLS-Report-Submitter: ${submitter}`,
      'Auto-Submitted: auto-generated',
      'MIME-Version: 1.0',
      'Content-Type: multipart/report; report-type="tlsrpt";',
      `\tboundary="${boundary}"`,
      '',
      `--${boundary}`,
      'Content-Type: text/plain; charset="us-ascii"',
      'Content-Transfer-Encoding: 7bit',
      '',
      `This is an aggregate TLS report from ${submitter} about ${domain}`,
      `for ${day} (UTC), in the format of RFC 8460.`,
      '',
      `--${boundary}`,
      'Content-Type: application/tlsrpt+gzip',
      'Content-Transfer-Encoding: base64',
      'Content-Disposition: attachment;',
      `\tfilename="${file}"`,
      '',
      ...(report.toString('base64').match(/.{1,76}/g) ?? []),
      `--${boundary}--`,
      '',
    ].join('\r\n'),
  );
}
