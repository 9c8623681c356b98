/** What the nodes that share a queue write down for each other: which work falls due when, and for whom it is first come. */

/** Work of one destination on one shard. */
export interface Due {
  destination: string;
  shard: number;
  atMs: number;
}

/** What the agenda asks of its owner. */
export interface AgendaOwner {
  /** Work falls due, and this process got the job. Resolves when it was looked at; it may have been left undone. */
  due(destination: string, shard: number): Promise<void>;
  /** All that waits, in order to write it down again after an outage. */
  backlog(): Promise<Due[]>;
  /** The agenda can be used, or cannot any more. */
  changed(up: boolean): void;
}

export interface Agenda {
  /** false: nothing is written down, and nobody is told what falls due. */
  readonly up: boolean;
  start(owner: AgendaOwner): void;
  /** Somebody will be told when the time has come. Without effect while the agenda is not up. */
  announce(due: Due): void;
  /** Whether this process takes work. */
  takes(takes: boolean): void;
  stats(): AgendaStats;
  /** Writes down what was announced last, finishes the jobs begun, and leaves. */
  close(): Promise<void>;
}

export interface AgendaStats {
  sinceMs: number;
  lastError: string;
  /** Processes that use the agenda, those that fell silent lately included. */
  processes: number;
  /** Of these, silent for a while: cut off perhaps, and still sending. */
  silent: number;
  announced: number;
  taken: number;
  outages: number;
}
