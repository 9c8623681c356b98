import { QueueFixture } from '../persistence/fixture.ts';
import { type Driver, databaseConformance } from './conformance.ts';
import { movingConformance } from './moving.ts';
import { selectingConformance } from './selecting.ts';
import { suppressingConformance } from './suppressing.ts';

const sqlite: Driver = { name: 'sqlite', survives: true, open: (overrides) => new QueueFixture(overrides) };
databaseConformance(sqlite);
movingConformance(sqlite);
selectingConformance(sqlite);
suppressingConformance(sqlite);
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
