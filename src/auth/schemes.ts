/** Kinds of password hashes that we make; the first is the default of `protorelay user`. */
export const SCHEMES = ['scram-sha-256', 'argon2id', 'scrypt', 'bcrypt', 'sha512-crypt', 'plain'] as const;
export type Scheme = (typeof SCHEMES)[number];
