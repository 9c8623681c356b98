-- What an operator said of recipients that end by "queue fail"; only under keys 'fail:…'. These keys, and those of mail that
-- was rerouted ('via:…'), may be longer than a domain.
ALTER TABLE mail_outbox ADD COLUMN operator_text VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE mail_outbox MODIFY destination VARCHAR(300) NOT NULL;
