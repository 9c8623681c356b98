/** Ways to spoil the program that the simulation must notice. */
export interface Mutation {
  /** Under src. */
  file: string;
  /** Stands there exactly once. */
  line: string;
  becomes: string;
}

export const MUTATIONS: Record<string, Mutation> = {};
