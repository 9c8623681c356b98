/** GET /api/v1/status: what `protorelay status --json` prints. */
import type { FastifyInstance } from 'fastify';
import { statusAnswer } from '../../control/status-answer.ts';
import { answered } from '../answered.ts';
import type { RelayLink } from '../relay-link.ts';

export function statusRoutes(app: FastifyInstance, link: RelayLink): void {
  app.get('/api/v1/status', { config: { needs: { role: 'viewer' } } }, (_request, reply) =>
    answered(reply, link, async (client) => statusAnswer(await client.status())),
  );
}
