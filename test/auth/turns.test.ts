/** Whose login is looked at next: round the clients, whatever one of them asks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Standing, Turns } from '../../src/auth/turns.ts';

/** Takes turns and notes the order in which they came, and who got none. */
class Book {
  readonly turns: Turns;
  readonly order: string[] = [];
  readonly refused: string[] = [];

  constructor(places: number, pending: number) {
    this.turns = new Turns({ places, pending });
  }

  ask(client: string, standing: Standing = 'fresh'): void {
    const turn = this.turns.take(client, standing);
    if (turn === false) this.refused.push(client);
    else if (turn === true) this.order.push(client);
    else void turn.then((came) => (came ? this.order : this.refused).push(client));
  }

  /** As many are looked at, one after the other; who had their turns. */
  async look(times: number): Promise<string> {
    const from = this.order.length;
    for (let i = 0; i < times; i++) {
      this.turns.done();
      await Promise.resolve();
    }
    return this.order.slice(from).join('');
  }
}

test('a client that asks a hundred times makes another wait for one of them', async () => {
  const book = new Book(1, 400);
  for (let i = 0; i < 100; i++) book.ask('h');
  book.ask('a');
  book.ask('b');
  book.ask('b');
  assert.equal(await book.look(6), 'habhbh');
});

test('who is known goes first, who failed last, and even that one has a turn', async () => {
  const book = new Book(1, 400);
  for (let i = 0; i < 30; i++) book.ask('f', 'failing');
  for (let i = 0; i < 30; i++) book.ask('n');
  for (let i = 0; i < 3; i++) book.ask('k', 'known');
  const order = await book.look(20);
  assert.match(order, /^kkk/);
  assert.equal(order.replace(/[^f]/g, '').length, 2, order);
});

test('a client has a quarter of the places to wait, and when all are taken whoever has most gives one up', async () => {
  const book = new Book(1, 9);
  book.ask('x');
  for (let i = 0; i < 10; i++) book.ask('h');
  assert.equal(book.turns.waiting, 2);
  assert.equal(book.refused.length, 8);
  for (const client of ['i', 'j', 'k']) for (let i = 0; i < 2; i++) book.ask(client);
  assert.equal(book.turns.waiting, 8);
  book.ask('a');
  await Promise.resolve();
  assert.equal(book.refused.length, 9, 'one of those that have two');
  assert.equal(book.turns.waiting, 8);
  assert.match(await book.look(8), /a/);
  assert.equal(book.turns.waiting, 0);
});

test('when all are taken nobody loses a place to one who has less claim to it', async () => {
  const book = new Book(1, 9);
  book.ask('x');
  book.ask('k', 'known');
  for (const client of 'abcde') book.ask(client);
  for (const client of 'fg') book.ask(client, 'failing');
  assert.equal(book.turns.waiting, 8);
  const comes = async (client: string, standing: Standing): Promise<string> => {
    const from = book.refused.length;
    book.ask(client, standing);
    await Promise.resolve();
    return book.refused.slice(from).join('');
  };
  assert.equal(await comes('h', 'failing'), 'h', 'who failed');
  assert.equal(await comes('i', 'fresh'), 'g', 'a stranger takes the place of the newest that failed');
  assert.equal(await comes('k', 'known'), 'f');
  assert.equal(await comes('j', 'fresh'), 'j', 'all strangers have one');
  assert.equal(await comes('l', 'known'), 'i', 'who is known takes the place of the newest stranger');
  assert.equal(await book.look(8), 'klkabcde');
});

test('a client that begins to fail has no second quarter for it; who is known from there is not kept out', () => {
  const book = new Book(1, 9);
  book.ask('x');
  book.ask('h');
  book.ask('h');
  book.ask('h', 'failing');
  assert.equal(book.refused.length, 1);
  book.ask('h', 'known');
  assert.equal(book.refused.length, 1);
  assert.equal(book.turns.waiting, 3);
});
