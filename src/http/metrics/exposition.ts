/** Samples as text: in the format of Prometheus (version 0.0.4), and as OpenMetrics 1.0.0. */
import { FAMILIES, type Family, type FamilyName, type LabelsOf } from './families.ts';

export type Format = 'prometheus' | 'openmetrics';

export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  prometheus: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

export class Samples {
  readonly #lines = new Map<FamilyName, string[]>();

  add<N extends FamilyName>(name: N, value: number, labels: LabelsOf<N>): void {
    const pairs = Object.entries<string>(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    const braces = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
    const lines = this.#lines.get(name);
    const line = `${name}${braces} ${value}\n`;
    if (lines === undefined) this.#lines.set(name, [line]);
    else lines.push(line);
  }

  text(format: Format): string {
    const parts: string[] = [];
    for (const [name, { type, help }] of Object.entries<Family>(FAMILIES)) {
      const lines = this.#lines.get(name as FamilyName);
      if (lines === undefined) continue;
      // OpenMetrics names the family of a counter without the ending of its samples.
      const family = format === 'openmetrics' && type === 'counter' ? name.replace(/_total$/, '') : name;
      parts.push(`# HELP ${family} ${help}\n# TYPE ${family} ${type}\n`, ...lines);
    }
    if (format === 'openmetrics') parts.push('# EOF\n');
    return parts.join('');
  }
}

const escaped = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

/** The format that Accept (RFC 9110 section 12.5.1) prefers; that of Prometheus where it does not care. */
export function formatFor(accept: string): Format {
  let openmetrics = 0;
  let plain = 0;
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1';
    const quality = Number(weight) || 0;
    if (type === 'application/openmetrics-text') openmetrics = Math.max(openmetrics, quality);
    else if (type === 'text/plain' || type === 'text/*') plain = Math.max(plain, quality);
  }
  return openmetrics > 0 && openmetrics >= plain ? 'openmetrics' : 'prometheus';
}
