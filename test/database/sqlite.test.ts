import { QueueFixture } from '../persistence/fixture.ts';
import { databaseConformance } from './conformance.ts';

databaseConformance({ name: 'sqlite', survives: true, open: (overrides) => new QueueFixture(overrides) });
databaseConformance({
  name: 'sqlite :memory:',
  survives: false,
  open: (overrides) => new QueueFixture({ ...overrides, database: { path: ':memory:' } }),
});
databaseConformance({
  name: 'sqlite with local storage',
  survives: true,
  open: (overrides) => new QueueFixture({ ...overrides, storage: { provider: 'local' } }),
});
