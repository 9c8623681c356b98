/** Destinations with due rows that wait for a free place with delivery, first come first served. */
import type { Place } from './place.ts';

export class ReadyPlaces {
  #places: Place[] = [];
  /** Index of the first: a list of a hundred thousand must not be moved up each time one is taken. */
  #from = 0;

  get size(): number {
    return this.#places.length - this.#from;
  }

  add(place: Place): void {
    place.queued = true;
    this.#places.push(place);
  }

  /** The first; there must be one. */
  take(): Place {
    const place = this.#places[this.#from++] as Place;
    place.queued = false;
    if (this.#from * 2 > this.#places.length) {
      this.#places = this.#places.slice(this.#from);
      this.#from = 0;
    }
    return place;
  }
}
