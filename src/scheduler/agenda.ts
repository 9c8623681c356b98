/** Where the nodes that share a queue write down which work falls due when; each piece of work goes to one of them. */

/** Work of one destination on one shard. */
export interface Due {
  destination: string;
  shard: number;
  atMs: number;
}

/** What the agenda asks of its owner. */
export interface AgendaOwner {
  /**
   * Work falls due, and this process got the job. Resolves when it has looked at it, even if it left the work undone.
   */
  due(destination: string, shard: number): Promise<void>;
  /** All work that waits, to be written down again after an outage. */
  backlog(): Promise<Due[]>;
  /** Says whether the agenda can be used now. */
  changed(up: boolean): void;
}

export interface Agenda {
  /** false: nothing is written down, and nobody is told which work falls due. */
  readonly up: boolean;
  start(owner: AgendaOwner): void;
  /** Writes work down: some process will be told when it falls due. Has no effect while the agenda is not up. */
  announce(due: Due): void;
  /** Sets whether this process takes work. */
  takes(takes: boolean): void;
  stats(): AgendaStats;
  /** Writes down the last announcements, finishes jobs that it began, and leaves. */
  close(): Promise<void>;
}

export interface AgendaStats {
  sinceMs: number;
  lastError: string;
  /** Number of processes that use the agenda, including those that fell silent lately. */
  processes: number;
  /** Number of these that are silent: they may be cut off, and still sending. */
  silent: number;
  announced: number;
  taken: number;
  outages: number;
}
