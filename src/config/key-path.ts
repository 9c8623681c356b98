/** A key of the config as it is written everywhere: `listeners[0].port`, `delivery.routes["example.com"].host`. */
export const keyPath = (path: readonly PropertyKey[]): string =>
  path.map(written).join('').replace(/^\./, '');

const written = (step: PropertyKey): string =>
  typeof step === 'number'
    ? `[${step}]`
    : /^[A-Za-z_$][\w$]*$/.test(String(step))
      ? `.${String(step)}`
      : `[${JSON.stringify(step)}]`;
