/** The dialog corpus over sockets and the native reactor: whole, every octet in a write of its own, pipelined. */
import { test } from 'node:test';
import { play, readCorpus } from './corpus.ts';
import { ReactorFixture } from './reactor-fixture.ts';

for (const dialog of readCorpus().filter(({ staged }) => !staged)) {
  for (const cut of dialog.pipelined
    ? (['steps', 'octets', 'pipelined'] as const)
    : (['steps', 'octets'] as const)) {
    test(`${dialog.name} (${cut})`, { timeout: 60_000 }, async () => {
      const fixture = new ReactorFixture(dialog.config);
      await play(dialog, await fixture.client(dialog.client), cut);
      await fixture.finish();
    });
  }
}
