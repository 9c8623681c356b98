import { EmbeddedScheduler } from '../../src/scheduler/embedded.ts';
import { DestinationRates } from '../../src/scheduler/rates.ts';
import { schedulerConformance } from './conformance.ts';

schedulerConformance({
  name: 'embedded',
  skip: false,
  shards: 1,
  async node(model, number, { maxInFlight = 100, enabled = true, messagesPerS = 0, hold = () => false }) {
    const scheduler: EmbeddedScheduler = new EmbeddedScheduler(
      {
        ...model.ports(number, hold, () => scheduler),
        claim: async (destination, limit) => model.claim(destination, limit),
        rates: new DestinationRates({ perSecond: () => messagesPerS, now: Date.now, shared: null }),
      },
      { maxInFlight, enabled, isShared: false, onClaimError: (_, error) => model.errors.push(error) },
    );
    scheduler.start();
    return { scheduler, close: () => scheduler.close() };
  },
});
