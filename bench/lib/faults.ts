/** Faults that the sink injects on purpose. */

export type FaultStage = 'connect' | 'mail' | 'rcpt' | 'data' | 'end';

/** A share of the commands of one stage is answered with `code`, or the connection is cut. */
export interface Fault {
  stage: FaultStage;
  /** Reply code, or 0: close without a reply. */
  code: number;
  /** 0…1 */
  share: number;
}

/** Reads '451:1%' or 'cut@rcpt:0.5%' (stage after '@', default end; 'cut' cuts the connection). Throws on nonsense. */
export function parseFault(text: string): Fault {
  const match = /^(\d{1,3}|4xx|5xx|cut)(?:@(connect|mail|rcpt|data|end))?:(\d+(?:\.\d+)?)%$/.exec(text);
  if (match === null) {
    throw new Error(
      `--fault ${text}: expected CODE[@STAGE]:SHARE%, as 4xx:1% or 550@rcpt:0.5% or cut@data:1%`,
    );
  }
  const [, code = '', stage = 'end', share = ''] = match;
  const named: Record<string, number> = { '4xx': 451, '5xx': 550, cut: 0 };
  return { stage: stage as FaultStage, code: named[code] ?? Number(code), share: Number(share) / 100 };
}
