-- Leases that ended are found without looking at the rows that wait.
CREATE INDEX outbox_leases ON mail_outbox (lease_until) WHERE lease_until IS NOT NULL;
