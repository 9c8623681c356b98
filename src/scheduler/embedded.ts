/**
 * The embedded scheduler: who goes to delivery next, on a node that shares its queue with nobody.
 *
 * It keeps per destination a count of waiting rows and the time the earliest is due, never the rows themselves
 * (the database has those), so a million deferred recipients cost what their destinations cost. The count is what
 * operators are told; whether a claim is worth it is decided by the time alone. Places with
 * delivery are bounded (`maxInFlight`), and one destination gets at most as many as are still free: a slow
 * destination can fill half of them, never all, so that others always find room (dynamic-threshold sharing). The
 * same holds for the memory their content takes, so that peers that stand still never keep new mail from coming in.
 */
import type { DestinationBacklog, RowChange } from '../database/database.ts';
import type { AttemptResult, Job } from '../mail/job.ts';
import { isFailKey } from '../mail/operator-keys.ts';
import { DueHeap } from './due-heap.ts';
import {
  addInFlight,
  addWaiting,
  countsOf,
  foundEmpty,
  guessWaiting,
  NEVER,
  newPlace,
  type Place,
  sharedInFlight,
} from './place.ts';
import { ReadyPlaces } from './ready-places.ts';
import type { DestinationStanding, Scheduler, SchedulerPorts } from './scheduler.ts';
import { SiteGroups } from './site-groups.ts';

/** Default rows per claim: enough that many share one transaction, few enough that it does not hold the writer for long. */
const CLAIM_ROWS = 200;
/** Pause before claiming again when the content arena was full or the database failed. */
const CLAIM_PAUSE_MS = 200;

/** Delivery leaves 1/n of the memory for content to new mail. */
const RESERVE_SHARE = 8;
/** The size to assume of a mail before any mail was seen. */
const UNKNOWN_MAIL_BYTES = 65_536;
/** This many places are given however full the memory is; otherwise a crowd of slow clients could stop delivery. */
const LEAST_PLACES = 16;
/** How soon memory is looked at again when only a lack of it keeps rows waiting. */
const MEMORY_PAUSE_MS = 200;

/** How soon a destination is looked at again whose rate allows no more messages now. */
const RATE_PAUSE_MS = 100;
/** Where places are few, a claim for 1/n of them is large enough to be worth it. */
const WORTH_SHARE = 8;
/** A claim that is too small waits at most this long for more free places: the rows being sent may take minutes. */
const CLAIM_GATHER_MS = 500;

/** How soon rows of a held destination that have become too old are looked for; later where there are many destinations. */
const OLD_LOOK_MS = 300_000;
const OLD_LOOK_MS_PER_DESTINATION = 50;

/** How often the clock is checked when nothing else is due. */
const CLOCK_LOOK_MS = 30_000;
/** When the clock moves against steady time by more than this, it was set. */
const CLOCK_SET_MS = 1000;

const NO_LIMIT = { messages: NEVER, atMs: 0 };

export interface EmbeddedSchedulerOptions {
  maxInFlight: number;
  /** false: nothing is ever sent (delivery.enabled); what operators end is ended all the same. */
  enabled: boolean;
  /** Whether others take rows of the queue, too: then the count of those that wait is a guess. */
  isShared: boolean;
  onClaimError(destination: string, error: unknown): void;
  /** Rows per claim. */
  claimRows?: number;
  /**
   * A claim that would bring fewer rows than this waits a moment while other rows of the destination are being sent.
   */
  minClaimRows?: number;
}

export class EmbeddedScheduler implements Scheduler {
  readonly #ports: SchedulerPorts;
  readonly #options: EmbeddedSchedulerOptions;
  readonly #places = new Map<string, Place>();
  readonly #sites: SiteGroups;
  readonly #due = new DueHeap<Place>();
  readonly #ready = new ReadyPlaces();
  #inFlight = 0;
  #claims = 0;
  #running = false;
  #timer: { cancel(): void } | null = null;
  #timerMs = NEVER;
  #pausedUntilMs = 0;
  /** The time of day minus steady time. */
  #aheadMs: number;
  #memoryTimer: { cancel(): void } | null = null;

  constructor(ports: SchedulerPorts, options: EmbeddedSchedulerOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#sites = new SiteGroups({
      steady: () => this.#steady(),
      outlook: (site) => ports.outlook?.(site) ?? NO_LIMIT,
    });
    this.#aheadMs = ports.now() - this.#steady();
  }

  #steady(): number {
    return this.#ports.steady?.() ?? this.#ports.now();
  }

  /** The steady time at which a time of day is reached, as the clocks stand now. */
  #steadyAt(dueMs: number): number {
    return this.#steady() + dueMs - this.#ports.now();
  }

  start(): void {
    this.#running = true;
    this.#wake();
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
    this.#timer = null;
    this.#timerMs = NEVER;
    this.#memoryTimer?.cancel();
    this.#memoryTimer = null;
  }

  reserve(destination: string, _recipients: number): boolean {
    if (!this.#running || !this.#options.enabled || this.#ports.held?.(destination) === true) return false;
    const place = this.#place(destination);
    const room = this.#room(place);
    // While older rows are due, new mail gets only half of the room, so that it does not overtake them for ever.
    const allowed = place.nextDueMs <= this.#ports.now() ? room > sharedInFlight(place) : room > 0;
    const isOpen = allowed && place.suspendedUntilMs <= this.#steady() && this.#sites.isOpen(place);
    if (!isOpen || !this.#takeRate(destination)) {
      this.#forget(place);
      return false;
    }
    addInFlight(place, 1);
    this.#inFlight++;
    return true;
  }

  cancel(destination: string, _recipients: number): void {
    this.#ports.rates?.giveBack(destination, 1);
    this.#vacate(destination);
  }

  #takeRate(destination: string): boolean {
    const { rates } = this.#ports;
    return rates === undefined || rates.take(destination, 1) === 1;
  }

  handOff(job: Job): void {
    this.#ports.deliver([job]);
  }

  waiting(destination: string, rows: number, dueMs: number): void {
    if (rows === 0) return;
    const place = this.#place(destination);
    addWaiting(place, rows);
    if (place.claiming) place.addedDueMs = Math.min(place.addedDueMs, dueMs);
    else this.#dueAt(place, dueMs);
  }

  settled(result: AttemptResult, retryAtMs: number | null): void {
    if (retryAtMs !== null) this.waiting(result.destination, 1, retryAtMs);
    this.#vacate(result.destination);
  }

  returned(job: Job): void {
    this.waiting(job.destination, 1, this.#ports.now());
    this.#vacate(job.destination);
  }

  belongs(destination: string, site: string): void {
    const place = this.#places.get(destination);
    const hasMoved = this.#sites.belongs(destination, site, place);
    if (hasMoved && place !== undefined && place.nextDueMs <= this.#ports.now()) {
      this.#enqueue(place);
      this.#pump();
    }
  }

  suspend(destination: string, untilMs: number, reason = ''): void {
    const place = this.#place(destination);
    if (place.suspendedUntilMs <= this.#steady()) place.suspendedSinceMs = this.#steady();
    place.suspendedUntilMs = untilMs;
    place.suspendedReason = reason;
    if (untilMs > this.#steady()) this.#watch(place, untilMs);
    else {
      this.#sites.askAgain(place);
      this.#enqueue(place);
    }
    this.#forget(place);
    this.#pump();
  }

  rulesChanged(): void {
    for (const place of this.#places.values()) if (place.nextDueMs <= this.#ports.now()) this.#enqueue(place);
    this.#pump();
  }

  rebuild(backlog: DestinationBacklog[]): void {
    for (const place of this.#places.values()) {
      place.waitingRows = 0;
      place.nextDueMs = NEVER;
    }
    this.refresh(backlog);
  }

  refresh(backlog: DestinationBacklog[]): void {
    for (const { destination, rows, nextDueMs } of backlog) {
      const place = this.#place(destination);
      place.waitingRows = 0;
      place.nextDueMs = NEVER;
      this.waiting(destination, rows, nextDueMs);
      this.#forget(place);
    }
    this.#wake();
  }

  changed(changes: RowChange[]): void {
    for (const { destination, rows } of changes) {
      const place = this.#place(destination);
      addWaiting(place, this.#options.isShared ? Math.max(rows, -place.waitingRows) : rows);
      // If the number of rows shrank, none became due. One look too many does no harm.
      if (rows >= 0) this.#perhapsDue(place, this.#ports.now());
      else if (place.waitingRows === 0 && !place.claiming) place.nextDueMs = NEVER;
      this.#forget(place);
    }
  }

  discover(found: DestinationBacklog[]): void {
    for (const { destination, rows, nextDueMs } of found) {
      const place = this.#place(destination);
      if (!this.#options.isShared) addWaiting(place, rows - place.waitingRows);
      else if (place.waitingRows <= 0) place.waitingRows = 1;
      this.#perhapsDue(place, nextDueMs);
    }
  }

  #perhapsDue(place: Place, dueMs: number): void {
    if (place.claiming) place.addedDueMs = Math.min(place.addedDueMs, dueMs);
    else if (dueMs < place.nextDueMs || !place.queued) this.#dueAt(place, dueMs);
  }

  stats(): ReturnType<Scheduler['stats']> {
    const steadyMs = this.#steady();
    const { size } = this.#places;
    const counts = countsOf(this.#places.values(), steadyMs, this.#ports.now() - steadyMs);
    return { destinations: size, inFlight: this.#inFlight, ...counts };
  }

  standing(destination: string): DestinationStanding {
    const { rates, now } = this.#ports;
    const place = this.#places.get(destination) ?? newPlace(destination);
    const leftMs = place.suspendedUntilMs - this.#steady();
    const hasRate = rates === undefined || rates.take(destination, 1) === 1;
    if (hasRate) rates?.giveBack(destination, 1);
    return {
      destination,
      sending: place.inFlight,
      suspendedUntilMs: leftMs > 0 ? now() + leftMs : null,
      suspendedSinceMs: leftMs > 0 ? now() - (this.#steady() - place.suspendedSinceMs) : null,
      suspendedReason: leftMs > 0 ? place.suspendedReason : '',
      limit:
        this.#room(place) <= 0 ? 'places' : !hasRate ? 'rate' : this.#sites.isOpen(place) ? null : 'site',
      site: place.group?.site ?? null,
    };
  }

  /** Whether no place is free for any destination. */
  get full(): boolean {
    return this.#free() <= 0;
  }

  /** Until when the destination is suspended, in steady time; 0 when it is not. */
  suspendedUntilMs(destination: string): number {
    return this.#places.get(destination)?.suspendedUntilMs ?? 0;
  }

  async close(): Promise<void> {
    this.stop();
  }

  #place(destination: string): Place {
    let place = this.#places.get(destination);
    if (!place) {
      place = newPlace(destination);
      this.#places.set(destination, place);
      this.#sites.join(place);
    }
    return place;
  }

  /** How many more rows may be sent: a destination, with those of its site, never holds more places than are still free. */
  #room(place: Place): number {
    return this.#free() - sharedInFlight(place);
  }

  /** Number of free places, as far as there is memory for their content. */
  #free(): number {
    const places = this.#options.maxInFlight - this.#inFlight;
    return Math.min(places, Math.max(this.#fitting(), LEAST_PLACES - this.#inFlight));
  }

  /** How many mails of the mean size still fit into the memory for content. */
  #fitting(): number {
    const { contentBytes } = this.#ports;
    const free = this.#ports.freeContentBytes();
    const used = contentBytes - free;
    const room = free - Math.ceil(contentBytes / RESERVE_SHARE);
    return Math.floor(used === 0 ? room / UNKNOWN_MAIL_BYTES : (room * this.#inFlight) / used);
  }

  #vacate(destination: string): void {
    const place = this.#place(destination);
    addInFlight(place, -1);
    this.#inFlight--;
    this.#forget(place);
    this.#pump();
  }

  /** Drops a destination that has no work and is not suspended, so that it costs nothing. */
  #forget(place: Place): void {
    if (
      place.inFlight === 0 &&
      place.waitingRows === 0 &&
      place.nextDueMs === NEVER &&
      !place.claiming &&
      !place.queued &&
      place.suspendedUntilMs <= this.#steady() &&
      // A place that was dropped may still be in the heap, while its destination has a new one by now.
      this.#places.get(place.destination) === place
    ) {
      this.#places.delete(place.destination);
      this.#sites.leave(place);
    }
  }

  #dueAt(place: Place, dueMs: number): void {
    if (dueMs < place.nextDueMs) place.nextDueMs = dueMs;
    if (place.nextDueMs === NEVER) return;
    if (place.nextDueMs <= this.#ports.now()) {
      this.#enqueue(place);
      this.#pump();
    } else this.#watch(place, this.#steadyAt(place.nextDueMs));
  }

  /** Has the place looked at again at this steady time. */
  #watch(place: Place, atMs: number): void {
    if (place.heapMs <= atMs) return;
    place.heapMs = atMs;
    this.#due.push(atMs, place);
    this.#arm();
  }

  #arm(): void {
    const dueMs = this.#due.earliestMs();
    if (!this.#running || dueMs >= this.#timerMs) return;
    const atMs = Math.min(dueMs, this.#steady() + CLOCK_LOOK_MS);
    this.#timer?.cancel();
    this.#timerMs = atMs;
    this.#timer = this.#ports.setTimer(atMs, () => {
      this.#timer = null;
      this.#timerMs = NEVER;
      this.#wake();
    });
  }

  #wake(): void {
    const nowMs = this.#ports.now();
    const steadyMs = this.#steady();
    if (Math.abs(nowMs - steadyMs - this.#aheadMs) > CLOCK_SET_MS) this.#clockSet(nowMs - steadyMs);
    // Each clock was read only once: a pair that is put back must be later than `steadyMs`, or this would not end.
    while (this.#due.earliestMs() <= steadyMs) {
      const place = this.#due.pop() as Place;
      // This pair may be stale, if an earlier time was pushed after it; a second look does no harm.
      place.heapMs = NEVER;
      if (place.suspendedUntilMs > steadyMs) this.#watch(place, place.suspendedUntilMs);
      else if (place.nextDueMs <= nowMs) this.#enqueue(place);
      else if (place.nextDueMs < NEVER) this.#watch(place, steadyMs + Math.ceil(place.nextDueMs - nowMs));
      this.#forget(place);
    }
    this.#arm();
    this.#pump();
  }

  /** The clock was set: works out anew when rows are due. */
  #clockSet(aheadMs: number): void {
    this.#aheadMs = aheadMs;
    for (const place of this.#places.values())
      if (place.nextDueMs < NEVER) this.#watch(place, this.#steadyAt(place.nextDueMs));
  }

  #enqueue(place: Place): void {
    if (place.queued || place.claiming || place.nextDueMs === NEVER) return;
    if (!this.#options.enabled && !isFailKey(place.destination)) return;
    this.#ready.add(place);
  }

  /** Starts the next claim when there is room. One claim at a time, because one writer answers them. */
  #pump(): void {
    if (!this.#running || this.#claims > 0) return;
    const nowMs = this.#steady();
    if (nowMs < this.#pausedUntilMs) return;
    const free = this.#free();
    // If nothing is free, none of them is looked at, however many there are.
    for (let looked = free > 0 ? this.#ready.size : 0; looked > 0; looked--) {
      const place = this.#ready.take();
      if (this.#waitsForRule(place, nowMs)) continue;
      if (place.suspendedUntilMs > nowMs) {
        this.#watch(place, place.suspendedUntilMs);
        continue;
      }
      const outlook = this.#sites.outlook(place);
      if (outlook.messages === 0) {
        this.#watch(place, outlook.atMs);
        continue;
      }
      const room = free - sharedInFlight(place);
      const { minClaimRows = 1, maxInFlight } = this.#options;
      const worth = Math.min(minClaimRows, place.waitingRows, Math.ceil(maxInFlight / WORTH_SHARE));
      const gathers = room < worth && place.inFlight > 0 && nowMs - place.claimedMs < CLAIM_GATHER_MS;
      if (room <= 0 || gathers) {
        this.#enqueue(place);
        continue;
      }
      const wanted = Math.min(this.#options.claimRows ?? CLAIM_ROWS, room, outlook.messages);
      const granted = this.#ports.rates?.take(place.destination, wanted) ?? wanted;
      if (granted === 0) {
        this.#watch(place, nowMs + RATE_PAUSE_MS);
        continue;
      }
      void this.#claim(place, granted);
      return;
    }
    if (this.#ready.size > 0) this.#watchMemory();
  }

  /** Whether a rule holds the place, and it is too early to look for rows that are too old. */
  #waitsForRule(place: Place, nowMs: number): boolean {
    if (this.#ports.held?.(place.destination) !== true) {
      place.oldLookMs = NEVER;
      return false;
    }
    const isTime = place.oldLookMs <= nowMs;
    if (isTime || place.oldLookMs === NEVER)
      place.oldLookMs = nowMs + Math.max(OLD_LOOK_MS, this.#places.size * OLD_LOOK_MS_PER_DESTINATION);
    this.#watch(place, place.oldLookMs);
    return !isTime;
  }

  /** A place that becomes free calls `#pump`; memory that becomes free does not, so this looks for it. */
  #watchMemory(): void {
    this.#memoryTimer ??= this.#ports.setTimer(this.#steady() + MEMORY_PAUSE_MS, () => {
      this.#memoryTimer = null;
      this.#pump();
    });
  }

  async #claim(place: Place, limit: number): Promise<void> {
    this.#claims++;
    place.claiming = true;
    place.claimedMs = this.#steady();
    place.addedDueMs = NEVER;
    try {
      const { jobs, nextDueMs, short, asideRows = 0 } = await this.#ports.claim(place.destination, limit);
      addInFlight(place, jobs.length);
      this.#inFlight += jobs.length;
      place.waitingRows -= jobs.length + asideRows;
      this.#ports.rates?.giveBack(place.destination, limit - jobs.length);
      place.nextDueMs = Math.min(nextDueMs ?? NEVER, place.addedDueMs);
      if (this.#options.isShared) guessWaiting(place, jobs.length, jobs.length === limit);
      else if (place.nextDueMs === NEVER) place.nextDueMs = foundEmpty(place, this.#ports.now());
      if (short) this.#pause();
      if (jobs.length > 0) this.#ports.deliver(jobs);
    } catch (error) {
      this.#ports.rates?.giveBack(place.destination, limit);
      this.#options.onClaimError(place.destination, error);
      place.nextDueMs = Math.min(place.nextDueMs, place.addedDueMs);
      this.#pause();
    } finally {
      this.#claims--;
      place.claiming = false;
    }
    this.#dueAt(place, place.nextDueMs);
    this.#forget(place);
    this.#pump();
  }

  /** Claims nothing for a moment, then goes on. */
  #pause(): void {
    this.#pausedUntilMs = this.#steady() + CLAIM_PAUSE_MS;
    this.#ports.setTimer(this.#pausedUntilMs, () => {
      this.#pausedUntilMs = 0;
      this.#pump();
    });
  }
}
