/** Date and time of RFC 5322 §3.3 in UTC, made once per second however many messages ask for it. */
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** 'Mon, 3 Nov 2025 08:05:09 +0000' for milliseconds since 1970. */
export function formatDate(ms: number): string {
  const date = new Date(ms);
  const two = (n: number) => (n < 10 ? `0${n}` : `${n}`);
  const day = `${DAYS[date.getUTCDay()]}, ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
  return `${day} ${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())} +0000`;
}

export class DateCache {
  #second = Number.NaN;
  #text = '';

  at(ms: number): string {
    const second = Math.floor(ms / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#text = formatDate(ms);
    }
    return this.#text;
  }
}
