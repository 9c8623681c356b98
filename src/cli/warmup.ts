/** `protorelay warmup …`: where the warm-ups of sources are, and orders for them. Needs no relay: it reads and writes files of the data folder. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { RelayError } from '../base/errors.ts';
import { EXIT } from '../base/exit-codes.ts';
import { nearest } from '../base/nearest.ts';
import { printable, printableJson, printableLines } from '../base/printable.ts';
import { configFor, dataDirOf } from '../config/load.ts';
import { type SourceWarmUp, sourceWarmUps } from '../config/source-warm-ups.ts';
import { textOrNull, timeOf } from '../control/words.ts';
import { loadShaping } from '../shaping/shaping-file.ts';
import { addOrder, ORDERS_FILE, readOrders, type WarmUpOrder } from '../shaping/warmup/orders.ts';
import { plansOf } from '../shaping/warmup/plans.ts';
import { WarmUp } from '../shaping/warmup/warm-up.ts';
import { type KeptWarmUp, readWarmUps, WARM_UP_FILE } from '../shaping/warmup/warm-up-file.ts';
import { wholeNumber } from './arguments.ts';
import type { CommandLine } from './command-line.ts';
import { columns } from './format.ts';
import { processFolders } from './learned-shown.ts';

/** What the default source is called, which has no name. */
const DEFAULT = 'default';
const sourceOf = (written: string): string => (written === DEFAULT ? '' : written);
const shownSource = (source: string): string => (source === '' ? DEFAULT : source);

export function addWarmUp(program: Command, line: CommandLine): void {
  const warmup = program
    .command('warmup')
    .description('sources that send more from day to day')
    .helpCommand(false);
  warmup
    .command('status [source]')
    .description('print each plan, and where each provider or site is in it')
    .option('--json', 'print JSON', false)
    .action((source: string | undefined, { json }: { json: boolean }) => {
      const shown = statusOf(line, source === undefined ? null : sourceOf(source), Date.now());
      if (shown === null) return;
      line.out.write(
        json ? `${printableJson(JSON.stringify(shown, null, 2))}\n` : printableLines(textOf(shown)),
      );
    });
  warmup
    .command('set')
    .argument('<source>')
    .argument('<provider>')
    .argument('<step>', 'day of the plan, from 1', wholeNumber)
    .description(
      'go on with this day of the plan, from 1; a pause is over. One more than the plan has: it is done',
    )
    .option('--json', 'print JSON', false)
    .action((source: string, provider: string, step: number, { json }: { json: boolean }) => {
      order(line, json, { source: sourceOf(source), provider, action: 'set', step: step - 1, reason: '' });
    });
  warmup
    .command('pause <source> [provider]')
    .description('send nothing until `warmup pause --end` or `warmup set`; without a provider, nowhere')
    .option('--reason <text>', 'why, for others', '')
    .option('--end', 'go on', false)
    .option('--json', 'print JSON', false)
    .action((source: string, provider = '*', options: { reason: string; end: boolean; json: boolean }) => {
      const { reason, end, json } = options;
      order(line, json, {
        source: sourceOf(source),
        provider,
        action: end ? 'resume' : 'pause',
        step: 0,
        reason,
      });
    });
}

function wrong(line: CommandLine, what: string): void {
  line.err.write(printableLines(`protorelay: ${what}\n`));
  line.endsWith(EXIT.dataError);
}

function order(line: CommandLine, json: boolean, ordered: Omit<WarmUpOrder, 'at_ms'>): void {
  const warmup = sourceWarmUps(configFor(['warmup', 'egress'], line.configPath()));
  const plans = warmup.filter(({ source }) => source === ordered.source);
  if (plans.length === 0) {
    wrong(line, noPlanOf(ordered.source, warmup));
    return;
  }
  const fault = providerFault(line, ordered.provider, plans);
  if (fault !== null) {
    wrong(line, fault);
    return;
  }
  const days = Math.max(...plans.map((one) => one.plan_messages_per_day.length));
  if (ordered.action === 'set' && ordered.step > days) {
    wrong(line, `the plan has ${days} days: a step is 1 to ${days + 1}`);
    return;
  }
  const said = orderAnswer(written(join(dataDirOf(line.configPath()), ORDERS_FILE), ordered));
  const where = ordered.provider === '*' ? 'everywhere' : `at ${ordered.provider}`;
  const day = ordered.step < days ? `goes on with day ${ordered.step + 1}` : 'is done with the plan';
  const what = { set: day, pause: 'pauses', resume: 'goes on' }[ordered.action];
  const text = `source ${shownSource(ordered.source)} ${what} ${where}; relay processes follow within a second or two\n`;
  line.out.write(json ? `${printableJson(JSON.stringify(said, null, 2))}\n` : printableLines(text));
}

function noPlanOf(source: string, plans: readonly SourceWarmUp[]): string {
  const name = shownSource(source);
  const near = nearest(
    name,
    plans.map((plan) => shownSource(plan.source)),
  );
  return `there is no warm-up of source ${name} in the config${near === null ? '' : ` (did you mean ${near}?)`}`;
}

/** What is wrong with the provider of an order; null: nothing. Sites have a colon in their names, and are known only by their mail. */
function providerFault(line: CommandLine, name: string, plans: readonly SourceWarmUp[]): string | null {
  const planned = plans.flatMap(({ providers }) => providers);
  if (name === '*' || planned.includes(name)) return null;
  if (!planned.includes('*')) {
    const source = shownSource(plans[0]?.source ?? '');
    return `the warm-up of source ${source} is at ${planned.join(', ')} only, not at ${name}`;
  }
  if (name.includes(':')) return null;
  const { data } = loadShaping(configFor(['shaping'], line.configPath()).shaping);
  const providers = data.providers.map((provider) => provider.name);
  if (providers.includes(name)) return null;
  const near = nearest(name, providers);
  return `there is no provider ${name}${near === null ? '' : ` (did you mean ${near}?)`}`;
}

/** @throws RelayError data_dir_unusable */
function written(path: string, ordered: Omit<WarmUpOrder, 'at_ms'>): WarmUpOrder {
  try {
    return addOrder(path, ordered, Date.now());
  } catch (error) {
    if (error instanceof RelayError) throw error;
    const { message } = error as Error;
    throw new RelayError('data_dir_unusable', `${path} cannot be written: ${message}`, error);
  }
}

interface ShownSite {
  site: string;
  state: string;
  /** Of the plan, from 1. */
  step: number;
  day: string | null;
  /** Of the day, of all processes. Null: no limit. */
  messages_per_day: number | null;
  sent: number;
  last_day: string | null;
  paused: string | null;
  delivered: number;
  bounced: number;
  complained: number;
  deferred: number;
}

interface ShownPlan {
  source: string;
  providers: string[];
  plan_messages_per_day: number[];
  start_date: string | null;
  window: string;
  time_zone: string;
  /** Null: what the plan does not take waits. */
  overflow_pool: string | null;
  sites: ShownSite[];
  /** That no mail has met as yet, or not since. */
  orders: OrderAnswer[];
}

interface OrderAnswer {
  ordered_at: string;
  source: string;
  /** A provider or site; '*' for all of the source. */
  provider: string;
  action: WarmUpOrder['action'];
  /** From 1. Null: the order sets none. */
  step: number | null;
  reason: string | null;
}

const orderAnswer = ({ at_ms, source, provider, action, step, reason }: WarmUpOrder): OrderAnswer => ({
  ordered_at: timeOf(at_ms),
  source: shownSource(source),
  provider,
  action,
  step: action === 'set' ? step + 1 : null,
  reason: textOrNull(reason),
});

function statusOf(line: CommandLine, only: string | null, nowMs: number): ShownPlan[] | null {
  const warmup = sourceWarmUps(configFor(['warmup', 'egress'], line.configPath()));
  const dataDir = dataDirOf(line.configPath());
  const kept = processFolders(dataDir).flatMap((folder) => readWarmUps(join(folder, WARM_UP_FILE)).records);
  const orders = readOrders(join(dataDir, ORDERS_FILE));
  const plans = warmup.filter(({ source }) => only === null || source === only);
  if (only !== null && plans.length === 0) {
    wrong(line, noPlanOf(only, warmup));
    return null;
  }
  return plans.map((plan) => {
    const others = warmup
      .filter(({ source }) => source === plan.source)
      .flatMap(({ providers }) => providers);
    const bySite = Map.groupBy(
      kept.filter((one) => isOf(one, plan, others)),
      ({ site }) => site,
    );
    return {
      source: shownSource(plan.source),
      providers: plan.providers,
      plan_messages_per_day: plan.plan_messages_per_day,
      start_date: plan.start_date || null,
      window: plan.window,
      time_zone: plan.time_zone,
      overflow_pool: plan.overflow_pool || null,
      sites: [...bySite].map(([site, all]) => siteAnswer(site, all, plan, nowMs)),
      orders: orders
        .filter(
          ({ source, at_ms }) =>
            source === plan.source && !kept.some(({ record }) => record.ordered_ms >= at_ms),
        )
        .map(orderAnswer),
    };
  });
}

/** A site of no named provider belongs to the plan for all. */
const isOf = ({ source, site }: KeptWarmUp, plan: SourceWarmUp, named: readonly string[]): boolean =>
  source === plan.source &&
  (plan.providers.includes(site) || (plan.providers.includes('*') && !named.includes(site)));

/** Of all processes together: each has its part of the day. */
function siteAnswer(site: string, all: readonly KeptWarmUp[], plan: SourceWarmUp, nowMs: number): ShownSite {
  const [whole] = plansOf([{ ...plan, providers: [site] }], 1);
  const states = all.map(({ record }) => new WarmUp(whole as NonNullable<typeof whole>, record));
  const first = states[0] as WarmUp;
  const sum = (of: (record: WarmUp['record']) => number): number =>
    states.reduce((total, one) => total + of(one.record), 0);
  const { record } = first;
  const closed = first.state === 'running' && first.limit(nowMs, 0).closedUntilMs > 0;
  return {
    site,
    state: closed ? 'outside_window' : first.state,
    step: record.step + 1,
    day: record.day || null,
    messages_per_day: Number.isFinite(first.planned) ? first.planned : null,
    sent: sum(({ sent }) => sent),
    last_day: record.last_day || null,
    paused: record.paused || null,
    delivered: sum(({ delivered }) => delivered),
    bounced: sum(({ bounced }) => bounced),
    // Each process is told of all of them.
    complained: Math.max(0, ...states.map((one) => one.record.complained)),
    deferred: sum(({ deferred }) => deferred),
  };
}

function textOf(shown: readonly ShownPlan[]): string {
  if (shown.length === 0) return 'no warm-ups in the config\n';
  return shown
    .map((plan) => {
      const from = plan.start_date === null ? '' : `, from ${plan.start_date}`;
      const rest = plan.overflow_pool === null ? '' : `, the rest by pool ${plan.overflow_pool}`;
      const head = `source ${plan.source} at ${plan.providers.join(', ')}: ${plan.plan_messages_per_day.join(', ')} a day, ${plan.window} ${plan.time_zone}${from}${rest}\n`;
      const rows = plan.sites.map((one) => [
        printable(one.site),
        one.state,
        one.messages_per_day === null ? 'done' : `day ${one.step} of ${plan.plan_messages_per_day.length}`,
        one.day ?? '-',
        `${one.sent} of ${one.messages_per_day ?? 'any'}`,
        `${one.delivered} delivered, ${one.bounced} bounced, ${one.deferred} deferred, ${one.complained} complained`,
        printable(one.paused ?? ''),
      ]);
      const table =
        rows.length === 0
          ? '  nothing was sent yet\n'
          : columns([['AT', 'STATE', 'STEP', 'DAY', 'SENT', 'SINCE THE LAST GATE', 'PAUSED'], ...rows]);
      const waiting = plan.orders
        .map(
          ({ action, step, provider }) =>
            `  ordered: ${action}${step === null ? '' : ` ${step}`} at ${provider}\n`,
        )
        .join('');
      return `${head}${table}${waiting}`;
    })
    .join('\n');
}
