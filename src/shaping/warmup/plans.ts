/** Plans of warm-ups as the config has them. */
import type { SourceWarmUp } from '../../config/source-warm-ups.ts';
import { SendingDays } from './sending-days.ts';
import type { WarmUpPlan } from './warm-up.ts';

/** @param processes each has its part of every day. */
export function plansOf(config: readonly SourceWarmUp[], processes: number): WarmUpPlan[] {
  return config.flatMap(
    ({ source, providers, plan_messages_per_day, start_date, time_zone, window, gates }) => {
      const days = new SendingDays(time_zone, window);
      return providers.map((provider) => ({
        source,
        provider,
        messagesPerDay: plan_messages_per_day.map((messages) =>
          Math.max(1, Math.floor(messages / processes)),
        ),
        startDate: start_date,
        days,
        sharers: processes,
        gates: {
          minDeliveries: Math.max(1, Math.floor(gates.min_deliveries / processes)),
          maxBounceRatio: gates.max_bounce_ratio,
          maxComplaintRatio: gates.max_complaint_ratio,
          maxDeferralRatio: gates.max_deferral_ratio,
        },
      }));
    },
  );
}
