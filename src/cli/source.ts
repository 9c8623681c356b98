/** `protorelay source list`: prints for people, or JSON with --json. */
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { EXIT, type ExitCode } from '../base/exit-codes.ts';
import { printableJson } from '../base/printable.ts';
import { dataDirOf } from '../config/load.ts';
import { sourceAnswer } from '../control/source-answer.ts';
import type { SourceReport } from '../egress/source-report.ts';
import type { CommandLine } from './command-line.ts';
import { columns, duration, plain } from './format.ts';

export function addSources(program: Command, line: CommandLine): void {
  const source = program.command('source').description('addresses that mail leaves from').helpCommand(false);
  source
    .command('list')
    .description('each source with what its checks came to; ends with 75 when one is suspended')
    .option('--json', 'print JSON', false)
    .action(async ({ json }: { json: boolean }) => {
      const { askRelay } = await import('../control/running-relay.ts');
      const reports = await askRelay(dataDirOf(line.configPath()), (client) => client.sources());
      line.endsWith(listSources(reports, json, line.out, Date.now()));
    });
}

export function listSources(
  reports: readonly SourceReport[],
  json: boolean,
  out: Writable,
  nowMs: number,
): ExitCode {
  if (json) out.write(`${printableJson(JSON.stringify(reports.map(sourceAnswer), null, 2))}\n`);
  else if (reports.length === 0) out.write('no sources: all mail leaves from delivery.source_address\n');
  else out.write(formatSources(reports, nowMs));
  return reports.some(({ state }) => state === 'suspended') ? EXIT.temporary : EXIT.ok;
}

function formatSources(reports: readonly SourceReport[], nowMs: number): string {
  const rows = reports.map((report) => [
    report.name,
    report.address === '' ? 'any' : report.address,
    report.state + (report.reason === '' ? '' : ` (${report.reason})`),
    report.pools.length === 0 ? '-' : report.pools.join(', '),
    report.checkedAtMs === 0 ? 'not yet' : `${duration(nowMs - report.checkedAtMs)} ago`,
    report.findings.some(({ ok }) => ok === false)
      ? 'see below'
      : report.findings.length === 0
        ? '-'
        : 'good',
  ]);
  const table = columns([['SOURCE', 'ADDRESS', 'STATE', 'POOLS', 'CHECKED', 'CHECKS'], ...rows]);
  const faults = reports.flatMap(({ name, findings }) =>
    findings
      .filter(({ ok }) => ok !== true)
      .map(
        ({ check, ok, detail }) =>
          `${name}: ${check} ${ok === null ? 'not known' : 'wrong'}: ${plain(detail)}\n`,
      ),
  );
  return table + (faults.length === 0 ? '' : `\n${faults.join('')}`);
}
