/** Dialogs with a policy of their own, over the plain reactor and DNS of a table. */
import { setImmediate as turn } from 'node:timers/promises';
import type { PolicyMemory } from '../../src/policy/host-memory.ts';
import { POLICY_REPLY, type PolicyReason } from '../../src/protocol/policy-reply.ts';
import { Reply } from '../../src/protocol/reply.ts';
import { configOf, DialogFixture, policyMemory } from '../session/dialog-fixture.ts';
import { type FakeNames, fakeDns } from './fake-dns.ts';

export class PolicyFixture extends DialogFixture {
  readonly asked: string[];
  readonly memory: PolicyMemory;

  constructor(policy: object, names: FakeNames = {}, settings: object = {}) {
    const whole = { relay_domains: ['here.net'], relay_networks: ['10.0.0.0/8'], ...settings, policy };
    const asked: string[] = [];
    const memory = policyMemory(configOf(whole));
    super(whole, { memory, queries: fakeDns(names, asked) });
    this.asked = asked;
    this.memory = memory;
  }

  /** Says lines (CRLF added), each when the one before is answered; the last reply. */
  async talk(connection: number, ...lines: string[]): Promise<string> {
    let reply = '';
    for (const line of lines) {
      const before = (this.reactor.sent[connection] as string).length;
      this.say(connection, `${line}\r\n`);
      await this.settled();
      reply = (this.reactor.sent[connection] as string).slice(before);
    }
    return reply.trimEnd();
  }

  /** A session of this client: EHLO and these lines; the last reply. */
  async dialog(address: string, ...lines: string[]): Promise<string> {
    const connection = this.open(address);
    await this.settled();
    if (this.isClosed(connection)) return (this.reactor.sent[connection] as string).trimEnd();
    return this.talk(connection, 'EHLO mail.there.net', ...lines);
  }

  /** What DNS of the table has answered, sessions have heard. */
  async settled(): Promise<void> {
    for (let i = 0; i < 5; i++) await turn();
  }

  hits(): string[] {
    return this.logged
      .filter(({ event }) => event === 'policy.hit')
      .map(({ fields }) => `${fields.rule} ${fields.mode}: ${fields.detail}`);
  }
}

/** Those of the replies that no session of these was given. */
export function unseen(fixtures: readonly PolicyFixture[], reasons: readonly PolicyReason[]): PolicyReason[] {
  const said = fixtures.flatMap((f) => f.reactor.sent).flatMap((sent) => sent.split('\r\n'));
  return reasons.filter((reason) => {
    const reply = POLICY_REPLY[reason];
    const line = reply instanceof Reply ? reply.line : reply.with('\0').line;
    const [before = '', rest = ''] = line.trimEnd().split('?');
    return !said.some((one) => one.startsWith(before) && one.endsWith(rest));
  });
}
