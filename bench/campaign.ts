/**
 * A campaign through the relay: merged messages to recipients at many domains, by MX into local sinks, with sites and their
 * limits, event files and List-Unsubscribe; unsigned, signed with Ed25519, with RSA-2048. And one run in real time against a
 * sink that limits messages. Exit code 1 when a target is missed (none with --quick).
 */
import {
  type Campaign,
  CampaignGround,
  type CampaignReport,
  KINDS,
  type Kind,
  type LimitedReport,
  runCampaign,
  runLimited,
} from './lib/campaign.ts';
import { fail, readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const options = readOptions('bench/campaign.ts', 'measures a campaign, from the client to the sinks', {
  messages: { kind: 'number', default: 100_000, help: 'recipients, each with a message of its own' },
  size: { kind: 'number', default: 2048, help: 'bytes of each' },
  domains: { kind: 'number', default: 2000, help: 'domains they are spread over' },
  hosts: { kind: 'number', default: 40, help: 'MX hosts of these domains; each is a site' },
  concurrency: { kind: 'number', default: 100, help: 'connections of the client' },
  rounds: { kind: 'number', default: 1, help: 'rounds; the medians count' },
  only: { kind: 'text', help: 'unsigned, ed25519, rsa or limited: this alone' },
  limit: { kind: 'number', default: 50, help: 'messages a second of the sink that limits' },
  'learn-s': { kind: 'number', default: 120, help: 'seconds after which the limited run is measured' },
  'measure-s': { kind: 'number', default: 120, help: 'for so many' },
  quick: { kind: 'flag', help: 'a smoke run: few messages, short times, no targets' },
  json: { kind: 'flag', help: 'print the report as JSON' },
  save: { kind: 'text', help: 'name of the files in bench/results; default: not written' },
});

const parts: string[] = [...KINDS, 'limited'];
if (options.only !== '' && !parts.includes(options.only))
  fail('bench/campaign.ts', `--only ${options.only}: one of ${parts.join(', ')}`);
const has = (part: string): boolean => options.only === '' || options.only === part;
const small = options.quick ? { messages: 400, domains: 40, hosts: 4, concurrency: 10 } : {};
const campaign: Campaign = {
  messages: options.messages,
  sizeBytes: options.size,
  domains: options.domains,
  hosts: options.hosts,
  concurrency: options.concurrency,
  ...small,
};
const [learnS, measureS] = options.quick ? [2, 3] : [options['learn-s'], options['measure-s']];
const rounds = options.quick ? 1 : options.rounds;
const DURABILITY = 'fsync before 250 (after_persist)';

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function rowOf(kind: Kind, reports: CampaignReport[]): string[] {
  const of = (value: (report: CampaignReport) => number): string => figure(median(reports.map(value)));
  const percentiles = (value: (report: CampaignReport) => { p50Ms: number; p99Ms: number }): string =>
    `${of((report) => value(report).p50Ms)}/${of((report) => value(report).p99Ms)}`;
  return [
    kind,
    of(({ handed }) => handed.messagesPerSecond),
    of(({ deliveredPerSecond }) => deliveredPerSecond),
    of(({ cpuUsPerMessage }) => cpuUsPerMessage),
    of(({ peakMb }) => peakMb),
    of(({ firstMs }) => firstMs),
    percentiles(({ handed }) => handed.latency.endOfData),
    percentiles(({ sink }) => sink.endToEnd),
    of(({ sink }) => sink.distinct),
    of(({ handed }) => handed.clientCpuUs),
  ];
}

const TITLES = [
  'campaign',
  'accepted msg/s',
  'delivered msg/s',
  'relay CPU µs/msg',
  'peak MB',
  'first at a sink ms',
  'end of data→250 p50/p99 ms',
  '→ at the sink p50/p99 ms',
  'arrived',
  'client CPU µs',
];

function limitedTable({ used, refused, usedAtFirst, refusedAtFirst }: LimitedReport): string {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  return table(
    [
      `sink that takes ${options.limit} messages a second`,
      `first ${learnS} s`,
      `next ${measureS} s`,
      'target',
    ],
    [
      ['taken, of what it allows', percent(usedAtFirst), percent(used), '≥ 90 %'],
      ['refused, of what it was sent', percent(refusedAtFirst), percent(refused), '≤ 2 %'],
    ],
  );
}

const ground = await CampaignGround.start(campaign);
try {
  const reports: Partial<Record<Kind, CampaignReport[]>> = {};
  for (let round = 0; round < rounds; round++)
    for (const kind of KINDS.filter(has)) {
      const report = await runCampaign(ground, campaign, kind);
      reports[kind] = [...(reports[kind] ?? []), report];
      if (report.sink.distinct !== campaign.messages || report.sink.duplicates > 0) process.exitCode = 1;
    }
  const limited = has('limited')
    ? await runLimited(ground, { ...campaign, domains: 1, hosts: 1 }, options.limit, learnS, measureS)
    : null;
  const rows = KINDS.flatMap((kind) => (reports[kind] === undefined ? [] : [rowOf(kind, reports[kind])]));
  const about = `${figure(campaign.messages)} recipients, ${figure(campaign.domains)} domains, ${campaign.hosts} sites`;
  const markdown = [
    ...(rows.length === 0 ? [] : [`${about}\n\n${table(TITLES, rows)}`]),
    ...(limited === null ? [] : [limitedTable(limited)]),
  ].join('\n');
  process.stdout.write(options.json ? `${JSON.stringify({ reports, limited })}\n` : markdown);
  if (options.save !== '')
    process.stderr.write(
      `written: ${writeResults(options.save, DURABILITY, { reports, limited }, markdown)}\n`,
    );
  if (!options.quick && limited !== null && (limited.used < 0.9 || limited.refused > 0.02))
    process.exitCode = 1;
} finally {
  await ground.stop();
}
