/** The verb table: every command this relay knows. */
import { auth } from './auth.ts';
import { bdat, data } from './content.ts';
import { ehlo, helo } from './hello.ts';
import { mail } from './mail.ts';
import { expn, help, noop, notOffered, quit, rset, vrfy } from './misc.ts';
import { rcpt } from './rcpt.ts';
import { startTls } from './starttls.ts';
import { VerbTable } from './verb.ts';
import { xclient, xforward } from './xclient.ts';

export function createVerbs(): VerbTable {
  return new VerbTable([
    mail,
    rcpt,
    data,
    bdat,
    rset,
    quit,
    ehlo,
    helo,
    startTls,
    auth,
    noop,
    vrfy,
    expn,
    help,
    xclient,
    xforward,
    ...notOffered,
  ]);
}
