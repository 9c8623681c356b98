/** For load balancers and service managers: asked without a token. */
import type { FastifyInstance } from 'fastify';
import { HealthWatch } from '../health.ts';
import type { RelayLink } from '../relay-link.ts';

export function healthRoutes(app: FastifyInstance, link: RelayLink, steadyMs: () => number): void {
  const watch = new HealthWatch(link, steadyMs);
  const config = { needs: { open: true } } as const;
  app.get('/health/live', { config }, async (_request, reply) => {
    const { live } = await watch.read();
    return reply.code(live ? 200 : 503).send({ live });
  });
  app.get('/health/ready', { config }, async (_request, reply) => {
    const { ready, reasons, degraded } = await watch.read();
    return reply.code(ready ? 200 : 503).send({ ready, reasons, degraded });
  });
}
