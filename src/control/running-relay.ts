/** The relay that runs on a data folder, as commands find it. */
import { RelayError } from '../base/errors.ts';
import { ControlClient } from './client.ts';
import { controlPathIn } from './socket-path.ts';

/** null when none runs. @throws RelayError 'control_failed' when one runs and may not be asked. */
export const runningRelay = (dataDir: string): Promise<ControlClient | null> =>
  ControlClient.connect(controlPathIn(dataDir));

/** Asks a relay that has to run, and closes the connection. @throws RelayError 'control_failed' when none runs. */
export async function askRelay<T>(dataDir: string, ask: (client: ControlClient) => Promise<T>): Promise<T> {
  const client = await runningRelay(dataDir);
  if (client === null)
    throw new RelayError('control_failed', `no relay is running (${controlPathIn(dataDir)})`);
  return ask(client).finally(() => client.close());
}
