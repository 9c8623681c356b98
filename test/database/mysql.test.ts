import { after, before } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { QueueFixture } from '../persistence/fixture.ts';
import { type DatabaseAccess, MariaDb, serverConfig, skipWithoutMariaDb } from '../services/mariadb.ts';
import { databaseConformance } from './conformance.ts';

let server: MariaDb;
let access: DatabaseAccess;

before(async () => {
  if (skipWithoutMariaDb() !== false) return;
  server = await MariaDb.start();
  access = await server.createDatabase();
  await migrate(serverConfig(server.admin(access)), 0);
});
after(() => server?.close());

databaseConformance({
  name: 'mysql',
  survives: true,
  skip: skipWithoutMariaDb(),
  prepare: () => server.empty(access),
  open: (overrides) =>
    new QueueFixture({
      ...overrides,
      database: { driver: 'mysql', ...access },
      storage: { provider: 'local' },
    }),
});
