/** What a check found. */
export const SEVERITIES = ['ok', 'warning', 'error'] as const;
export type Severity = (typeof SEVERITIES)[number];

export type Check =
  | 'spf'
  | 'dkim'
  | 'dmarc'
  | 'ptr'
  | 'tls'
  | 'mx'
  | 'header'
  | 'one_click'
  | 'signature'
  | 'lines'
  | 'size';

export interface Finding {
  check: Check;
  severity: Severity;
  /** What is so, with the name it is about. */
  text: string;
  /** What to do about it; '' where that follows. */
  mend: string;
}

/** Findings of one check as they come. */
export class Findings {
  readonly all: Finding[] = [];

  ok(check: Check, text: string): void {
    this.all.push({ check, severity: 'ok', text, mend: '' });
  }

  warning(check: Check, text: string, mend = ''): void {
    this.all.push({ check, severity: 'warning', text, mend });
  }

  error(check: Check, text: string, mend = ''): void {
    this.all.push({ check, severity: 'error', text, mend });
  }

  /** DNS did not answer: neither right nor wrong. */
  unknown(check: Check, what: string, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.warning(check, `${what} cannot be told now: ${why}`, 'try again when DNS answers');
  }
}
