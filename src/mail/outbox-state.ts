/** States of an outbox row (one message × one destination). */
export type OutboxState = 'PENDING' | 'SENDING' | 'SENT' | 'RETRY' | 'DEAD' | 'HELD';
