/** A certificate of a test's own for localhost and 127.0.0.1, signed by itself. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export function certificate(): { cert: string; key: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'certificate-'));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
  execFileSync('openssl', [...args, '-addext', names, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  return { cert, key, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
