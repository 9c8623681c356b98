/** Answers a request by what the relay says; one that is away is a problem that goes away. */
import type { FastifyReply } from 'fastify';
import { RelayError } from '../base/errors.ts';
import type { ControlClient } from '../control/client.ts';
import { sendProblem } from './problem.ts';
import type { RelayLink } from './relay-link.ts';

const PATIENCE_MS = 10_000;

export async function answered(
  reply: FastifyReply,
  link: RelayLink,
  question: (client: ControlClient) => Promise<unknown>,
): Promise<FastifyReply> {
  try {
    return reply.send(await link.ask(question, PATIENCE_MS));
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    const headers = { 'Retry-After': '2' };
    return sendProblem(reply, { status: 503, code: error.code, detail: error.message, headers });
  }
}
