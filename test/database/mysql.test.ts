import { after, before } from 'node:test';
import { migrate } from '../../src/database/mysql/schema.ts';
import { QueueFixture } from '../persistence/fixture.ts';
import {
  type DatabaseAccess,
  MariaDb,
  serverConfig,
  skipWithoutMariaDb,
  skipWithoutMysql,
} from '../services/mariadb.ts';
import { type Driver, databaseConformance } from './conformance.ts';
import { movingConformance } from './moving.ts';
import { selectingConformance } from './selecting.ts';
import { suppressingConformance } from './suppressing.ts';

function conformance(name: string, program: 'mariadbd' | 'mysqld', skip: string | false): void {
  let server: MariaDb;
  let access: DatabaseAccess;

  before(async () => {
    if (skip !== false) return;
    server = await MariaDb.start({ program });
    access = await server.createDatabase();
    await migrate(serverConfig(server.admin(access)), 0);
  });
  after(() => server?.close());

  const driver: Driver = {
    name,
    survives: true,
    skip,
    prepare: () => server.empty(access),
    open: (overrides) =>
      new QueueFixture({
        ...overrides,
        database: { driver: 'mysql', ...access },
        storage: { provider: 'local' },
      }),
  };
  databaseConformance(driver);
  movingConformance(driver);
  selectingConformance(driver);
  suppressingConformance(driver);
}

conformance('mysql', 'mariadbd', skipWithoutMariaDb());
conformance('mysql on MySQL itself', 'mysqld', skipWithoutMysql());
