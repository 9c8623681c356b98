/** The files with limits at providers, as a start and `config check` look at them. */
import type { Say } from '../config/say.ts';
import type { Config } from '../config/schema.ts';
import { checkShapingConfig } from './check-config.ts';
import { readShaping } from './shaping-file.ts';

export function checkShapingFiles(config: Config, problem: Say): void {
  const { shaping, egress } = config;
  const problems: string[] = [];
  const loaded = readShaping(shaping, problems, egress);
  for (const one of problems) {
    const isOwn = shaping.overrides_file !== '' && one.startsWith(`${shaping.overrides_file}:`);
    problem(['shaping', isOwn ? 'overrides_file' : 'file'], one);
  }
  checkShapingConfig(config, problems.length === 0 ? (loaded?.data ?? null) : null, problem);
}
