import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DateCache, formatDate } from '../../src/protocol/date.ts';
import { receivedHeader } from '../../src/protocol/trace.ts';
import { decodeXtext, isXtext } from '../../src/protocol/xtext.ts';

test('dates are those of RFC 5322', () => {
  assert.equal(formatDate(0), 'Thu, 1 Jan 1970 00:00:00 +0000');
  assert.equal(formatDate(Date.UTC(2024, 1, 29, 23, 59, 59, 999)), 'Thu, 29 Feb 2024 23:59:59 +0000');
});

test('the cache follows the clock in both directions', () => {
  const dates = new DateCache();
  assert.equal(dates.at(1_000_500), formatDate(1_000_000));
  assert.equal(dates.at(1_000_999), formatDate(1_000_000));
  assert.equal(dates.at(1_001_000), formatDate(1_001_000));
  assert.equal(dates.at(999_999), formatDate(999_000));
});

test('xtext', () => {
  for (const good of ['', 'abc', 'a+2Bb', '+20', '!*,<>~']) assert.equal(isXtext(good), true, good);
  for (const bad of ['a b', 'a=b', 'a+b', 'a+2b', '+', 'a+2', 'é']) assert.equal(isXtext(bad), false, bad);
  assert.equal(decodeXtext('a+2Bb+20c'), 'a+b c');
  assert.equal(decodeXtext('plain'), 'plain');
});

const parts = {
  helo: 'client.example',
  clientAddress: '2001:db8::1',
  hostname: 'relay.example.test',
  protocol: 'ESMTP',
  queueId: '01jabcdefghjkmn',
  recipient: '',
  date: formatDate(0),
};

test('the trace header names an IPv6 client by a literal and several recipients not at all', () => {
  assert.equal(
    receivedHeader(parts),
    'Received: from client.example ([IPv6:2001:db8::1])\r\n\tby relay.example.test with ESMTP id 01jabcdefghjkmn;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n',
  );
});

test('the trace header has the confirmed name of the client before its address', () => {
  const from = (clientAddress: string, clientName: string): string =>
    receivedHeader({ ...parts, clientAddress, clientName }).split('\r\n')[0] as string;
  assert.equal(from('192.0.2.1', 'mx.a.test'), 'Received: from client.example (mx.a.test [192.0.2.1])');
  assert.equal(from('::1', 'mx.a.test'), 'Received: from client.example (mx.a.test [IPv6:::1])');
  assert.equal(from('192.0.2.1', ''), 'Received: from client.example ([192.0.2.1])');
});

test('the trace header of a Unix socket client', () => {
  assert.match(
    receivedHeader({ ...parts, clientAddress: 'unix' }),
    /^Received: from client\.example \(unix socket\)\r\n/,
  );
});

test('no line of the trace header passes 998 octets with the longest parts', () => {
  const long = receivedHeader({
    ...parts,
    helo: 'h'.repeat(255),
    clientName: 'c'.repeat(255),
    hostname: 'n'.repeat(255),
    recipient: 'r'.repeat(254),
  });
  for (const line of long.split('\r\n')) assert(line.length <= 998);
  assert.match(long, /\r\n\tfor <r{254}>;\r\n/);
});
