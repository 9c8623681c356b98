-- What an operator said of recipients that end by "queue fail"; only under keys 'fail:…'.
ALTER TABLE mail_outbox ADD COLUMN operator_text TEXT NOT NULL DEFAULT '';
