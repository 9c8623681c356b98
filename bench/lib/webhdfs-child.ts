/** The in-memory WebHDFS server of the tests in a process of its own; prints its address as one JSON line. */
import { WebHdfsServer } from '../../test/services/webhdfs-server.ts';

const server = await new WebHdfsServer().start();
process.stdout.write(`${JSON.stringify({ event: 'listening', endpoints: server.endpoints })}\n`);
process.on('SIGTERM', () => process.exit(0));
// Files are deleted as mail is settled; what the requests were is of no interest here.
setInterval(() => server.seen.splice(0), 100);
