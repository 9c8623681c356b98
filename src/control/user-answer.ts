/** A user in the words of docs/words.md, as `user list --json` prints it. */
import type { ListedUser } from '../auth/user-store.ts';

export interface UserAnswer {
  user: string;
  /** Kind of hash. */
  scheme: string;
  rules: Record<string, unknown>;
}

export const userAnswer = ({ username, scheme, rules }: ListedUser): UserAnswer => ({
  user: username,
  scheme,
  rules,
});
