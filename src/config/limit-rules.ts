/** Limits that contradict one another, or that another one keeps from having an effect. Pure. */
import type { Say } from './say.ts';
import type { Config } from './schema.ts';

type IsSet = (path: string[]) => boolean;

/** @returns the checks, each by itself: a value that is faulty concerns only those that read it. */
export function checkLimits(config: Config, isSet: IsSet, problem: Say, warning: Say): (() => void)[] {
  /** Warns of a limit that somebody set beyond another one. */
  const within = (path: string[], value: number, limit: number, limitedBy: string): void => {
    if (value > limit && isSet(path)) warning(path, `has no effect beyond ${limitedBy} (${limit})`);
  };
  return [
    () => {
      const quarter = (config.content_memory_mb * 1_048_576) / 4;
      if (config.spill_threshold_bytes > quarter)
        problem(
          ['spill_threshold_bytes'],
          `must be at most a quarter of content_memory_mb (${quarter}), so that one message cannot fill the memory`,
        );
    },
    () => {
      const { initial_delay_ms: first, max_delay_ms: longest } = config.retry;
      if (first > longest)
        problem(['retry', 'initial_delay_ms'], `must not exceed retry.max_delay_ms (${longest})`);
    },
    () => {
      const { enabled, initial_delay_ms: first, max_age_ms: age } = config.retry;
      if (enabled && first >= age)
        warning(
          ['retry', 'initial_delay_ms'],
          `reaches retry.max_age_ms (${age}): what is deferred once expires without a second attempt`,
        );
    },
    () => {
      const { restart_delay_ms: first, max_restart_delay_ms: longest } = config.supervisor;
      if (first > longest)
        problem(
          ['supervisor', 'restart_delay_ms'],
          `must not exceed supervisor.max_restart_delay_ms (${longest})`,
        );
    },
    () => {
      const { max_connections_per_ip: one, max_connections: all } = config.smtp;
      if (one > all && isSet(['smtp', 'max_connections_per_ip']))
        warning(
          ['smtp', 'max_connections_per_ip'],
          `has no effect: it exceeds smtp.max_connections (${all})`,
        );
    },
    () => {
      const { max_total, max_per_ip, max_per_network } = config.policy.connections;
      const at = ['policy', 'connections'];
      within([...at, 'max_total'], max_total, config.smtp.max_connections, 'smtp.max_connections');
      if (max_per_network > 0)
        within([...at, 'max_per_ip'], max_per_ip, max_per_network, 'policy.connections.max_per_network');
    },
    () =>
      within(
        ['tls', 'handshake_silence_ms'],
        config.tls.handshake_silence_ms,
        config.tls.handshake_timeout_ms,
        'tls.handshake_timeout_ms',
      ),
    () =>
      within(['dns', 'mx_ttl_ms'], config.dns.mx_ttl_ms, config.dns.cache_max_ttl_ms, 'dns.cache_max_ttl_ms'),
    () => {
      const { delay_after_ms: after } = config.dsn;
      if (after >= config.retry.max_age_ms && isSet(['dsn', 'delay_after_ms']))
        warning(
          ['dsn', 'delay_after_ms'],
          `has no effect: mail expires before (retry.max_age_ms, ${config.retry.max_age_ms})`,
        );
    },
  ];
}
