/**
 * Which destinations share a site, as delivery threads found: the places of one site count together, so that a slow one never
 * takes all places with its many domains, and no more is handed over than its limits let through soon. Bounded: of
 * destinations without mail the sites are forgotten when there are too many, and are told again.
 */
import type { Place, SiteGroup } from './place.ts';
import type { Outlook } from './scheduler.ts';

const MAX_REMEMBERED = 100_000;
/** Within this time no more is handed over than may go in it. */
const WINDOW_MS = 1000;
/**
 * A domain may move to other hosts while its site is closed for hours. So one row of it goes to delivery now and then: that finds
 * the site anew, or brings the row back. Of a site with many domains less often: five a second, whatever there are.
 */
const ASK_AGAIN_MS = 900_000;
const ASK_APART_MS = 200;

export interface SiteGroupsPorts {
  steady(): number;
  outlook(site: string): Outlook;
}

const FREE: Outlook = { messages: Number.POSITIVE_INFINITY, atMs: 0 };

export class SiteGroups {
  readonly #ports: SiteGroupsPorts;
  readonly #siteOf = new Map<string, string>();
  readonly #groups = new Map<string, SiteGroup>();

  constructor(ports: SiteGroupsPorts) {
    this.#ports = ports;
  }

  /**
   * A destination belongs to the site. @param place what the scheduler has of it, if anything.
   * @returns whether it moved there from another one, so that other limits hold.
   */
  belongs(destination: string, site: string, place: Place | undefined): boolean {
    if (this.#siteOf.size >= MAX_REMEMBERED && !this.#siteOf.has(destination)) this.#siteOf.clear();
    this.#siteOf.set(destination, site);
    if (place === undefined) return false;
    place.siteMs = this.#ports.steady();
    if (place.group?.site === site) return false;
    const hasMoved = place.group !== null;
    this.leave(place);
    this.join(place);
    return hasMoved;
  }

  /** A new place takes its part in its group. */
  join(place: Place): void {
    const site = this.#siteOf.get(place.destination);
    if (site === undefined) return;
    let group = this.#groups.get(site);
    if (group === undefined) {
      group = { site, inFlight: 0, places: 0, handed: 0, windowMs: 0 };
      this.#groups.set(site, group);
    }
    group.places++;
    group.inFlight += place.inFlight;
    place.group = group;
    place.siteMs = this.#ports.steady();
  }

  /** A place is dropped, or moves to another site. */
  leave(place: Place): void {
    const { group } = place;
    if (group === null) return;
    group.inFlight -= place.inFlight;
    if (--group.places === 0) this.#groups.delete(group.site);
    place.group = null;
  }

  /** The site is to be found anew, though it be closed: mail is wanted to go now. */
  askAgain(place: Place): void {
    place.siteMs = Number.NEGATIVE_INFINITY;
  }

  /** Whether anything may be handed over to it now. */
  isOpen(place: Place): boolean {
    return place.group === null || this.outlook(place).messages > 0;
  }

  /** What may be handed over to the site of the place now. */
  outlook(place: Place): Outlook {
    const { group } = place;
    if (group === null) return FREE;
    const { messages, atMs } = this.#ports.outlook(group.site);
    if (messages === Number.POSITIVE_INFINITY) return FREE;
    const nowMs = this.#ports.steady();
    if (nowMs - group.windowMs >= WINDOW_MS) {
      group.windowMs = nowMs;
      group.handed = 0;
    }
    const left = messages - group.handed;
    if (left > 0) return { messages: left, atMs: 0 };
    const opensMs = Math.max(atMs, group.windowMs + WINDOW_MS);
    const askMs = place.siteMs + Math.max(ASK_AGAIN_MS, group.places * ASK_APART_MS);
    if (askMs > nowMs || place.inFlight > 0)
      return { messages: 0, atMs: Math.min(opensMs, Math.max(askMs, nowMs + WINDOW_MS)) };
    place.siteMs = nowMs;
    return { messages: 1, atMs: 0 };
  }
}
