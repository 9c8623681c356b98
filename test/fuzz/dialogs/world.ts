/**
 * A real relay between clients and next hops that both speak from a grammar. A round plays dialogs of one seed, then
 * lets everything come to rest: the process lives, nothing of it failed inside, what was held is given back (content
 * memory, connections, accounts, descriptors), and a good message goes through.
 */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../../../src/control/client.ts';
import { LOCALHOST } from '../../native/tls-rig.ts';
import { Dice } from '../../support/dice.ts';
import { bounded, RelayFixture } from '../../support/relay-fixture.ts';
import { ScriptedSink } from '../../support/scripted-sink.ts';
import { Talk } from '../../support/talk.ts';
import { eventually } from '../../support/wait.ts';
import { clientDialog, PROXY_FROM, XCLIENT_FROM } from './client-grammar.ts';
import { type Ports, play } from './client-player.ts';
import { Hop } from './hop.ts';

const PRELOAD = join(import.meta.dirname, '../../support/census-preload.ts');
const DIALOGS = 40;
const GOOD = 'good@sink.test';
const GOOD_MS = 20_000;
const PLAYED_MS = 60_000;
const DELIVERED_MS = 800;
const HELD = [
  'heldBytes',
  'connections',
  'inflight',
  'sockets',
  'handshakes',
  'content',
  'spill',
  'envelopes',
];

export class DialogWorld {
  readonly relay: RelayFixture;
  readonly #hop: Hop;
  readonly #sink: ScriptedSink;
  readonly #control: ControlClient;
  readonly #ports: Ports;
  #descriptors = 0;

  private constructor(relay: RelayFixture, hop: Hop, sink: ScriptedSink, control: ControlClient) {
    this.relay = relay;
    this.#hop = hop;
    this.#sink = sink;
    this.#control = control;
    const [clear, tls] = relay.addresses.map(({ port }) => port as number);
    this.#ports = { clear: clear as number, tls: tls as number };
  }

  static async start(): Promise<DialogWorld> {
    const hop = await Hop.start();
    const sink = await ScriptedSink.start({ keepContent: false });
    const relay = new RelayFixture({}, { env: { NODE_OPTIONS: `--import=${PRELOAD}` } });
    writeFileSync(join(relay.dir, 'tls.pem'), `${LOCALHOST.certificate}\n${LOCALHOST.key}`);
    relay.configure(settings(hop.port, sink.port));
    await relay.start();
    const control = await ControlClient.connect(join(relay.dataDir, 'control.sock'));
    assert.ok(control !== null);
    const world = new DialogWorld(relay, hop, sink, control);
    // What is opened once and kept is open from here on.
    try {
      await world.#play(0);
      await world.#rest();
    } catch (error) {
      await world.destroy();
      throw error;
    }
    world.#descriptors = world.#open();
    return world;
  }

  async destroy(): Promise<void> {
    this.#control.close();
    await this.relay.destroy();
    await this.#hop.stop();
    await this.#sink.stop();
  }

  /** Throws when the relay did not bear it. */
  async round(seed: number): Promise<void> {
    await this.#play(seed);
    await this.#rest();
    await eventually(() => {
      const now = this.#open();
      assert.ok(now <= this.#descriptors, `${now} descriptors are open, ${this.#descriptors} at the start`);
    });
  }

  async #play(seed: number): Promise<void> {
    this.#hop.begin(seed);
    const dialogs = Array.from({ length: DIALOGS }, (_, i) => clientDialog(new Dice(seed, i)));
    const played = dialogs.map((dialog, i) =>
      bounded(
        play(this.#ports, dialog),
        PLAYED_MS,
        () => `dialog ${i} has no end: ${JSON.stringify(dialog)}`,
      ),
    );
    await Promise.all(played);
    // Attempts have their time, and the next ones of what was deferred.
    const endMs = performance.now() + DELIVERED_MS;
    while (performance.now() < endMs) {
      const { rows } = (await this.#control.runningStats()).queue;
      if (rows.PENDING + rows.SENDING + rows.RETRY === 0) break;
      await sleep(20);
    }
  }

  /** Ends what goes on, and looks at what is left. */
  async #rest(): Promise<void> {
    this.#alive();
    this.#hop.turnAway();
    await eventually(async () => {
      await this.#control.operate('delete', {});
      const { queue, scheduler } = await this.#control.runningStats();
      const { PENDING, SENDING, RETRY, HELD: held } = queue.rows;
      assert.deepEqual({ PENDING, SENDING, RETRY, held }, { PENDING: 0, SENDING: 0, RETRY: 0, held: 0 });
      const faults = Object.entries(scheduler.faults ?? {}).filter(([, count]) => count !== 0);
      assert.deepEqual(faults, []);
    });
    await eventually(async () => {
      const census = await this.#census();
      const left = HELD.filter((name) => census[name] !== 0).map((name) => `${name} ${census[name]}`);
      assert.deepEqual(left, [], 'what dialogs held is given back');
    });
    await this.#good();
    this.#alive();
    const errors = this.relay.log.filter(({ level }) => level === 'error' || level === 'fatal');
    assert.deepEqual(errors, []);
  }

  #alive(): void {
    if (!this.relay.running) throw new Error(`the relay ended:\n${this.relay.output()}`);
  }

  async #census(): Promise<Record<string, unknown>> {
    const line = this.relay.logLine('census');
    this.relay.signal('SIGUSR2');
    return line;
  }

  async #good(): Promise<void> {
    const before = this.#sink.messages.length;
    const talk = await Talk.hello({ port: this.#ports.clear, host: '127.0.0.1' });
    await talk.accepted({ to: GOOD });
    await talk.quit();
    const told = 'the good message was not delivered';
    await bounded(this.#sink.received(before + 1), GOOD_MS, () => `${told}\n${this.#fates()}`);
    this.#sink.dropAll();
  }

  #fates(): string {
    this.relay.events.read();
    return this.relay.events.events
      .slice(-5)
      .map((event) => JSON.stringify(event))
      .join('\n');
  }

  #open(): number {
    return readdirSync(`/proc/${this.relay.pid}/fd`).length;
  }
}

function settings(hopPort: number, sinkPort: number): Record<string, unknown> {
  const hop = { host: '127.0.0.1', port: hopPort };
  const auth = { username: 'user', password: 'password' };
  const brief = { command_timeout_ms: 400, data_timeout_ms: 400 };
  return {
    listeners: [
      { host: '127.0.0.1', port: 0, tls: 'optional', auth: 'optional' },
      { host: '127.0.0.1', port: 0, tls: 'implicit', auth: 'optional' },
    ],
    tls: { cert_file: '../tls.pem', handshake_timeout_ms: 500, handshake_silence_ms: 300 },
    auth: {
      allow_without_tls: true,
      failure_delay_ms: 0,
      backends: [{ type: 'memory', users: [auth] }],
    },
    relay_networks: ['127.0.0.1', '127.0.0.2', PROXY_FROM, XCLIENT_FROM, '198.51.100.1'],
    relay_domains: ['h1.test', 'h2.test'],
    postmaster: 'postmaster@h3.test',
    policy: {
      bans: { enabled: false },
      xclient_networks: [XCLIENT_FROM],
      proxy_protocol: { networks: [PROXY_FROM], timeout_ms: 300 },
    },
    session_threads: 2,
    delivery_threads: 2,
    content_memory_mb: 8,
    spill_threshold_bytes: 65_536,
    max_message_size: 400_000,
    smtp: { ...brief, max_errors: 30 },
    delivery: {
      ...brief,
      smarthost: hop,
      routes: {
        'sink.test': { host: '127.0.0.1', port: sinkPort },
        'h2.test': { ...hop, auth },
        'h3.test': { ...hop, tls: { mode: 'required' } },
      },
      connect_timeout_ms: 400,
      final_reply_timeout_ms: 400,
      idle_connection_ms: 50,
      suspend_after_failures: 1000,
      failed_host_ttl_ms: 0,
      max_recipients_per_transaction: 3,
      tls: { handshake_timeout_ms: 400, broken_host_ttl_ms: 0 },
    },
    retry: { initial_delay_ms: 20, max_delay_ms: 60, max_attempts: 3 },
    queue: { keep_failed_ms: 0 },
  };
}
