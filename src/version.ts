/** What this build is: version from package.json, the rest written by build.sh into build/version.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface BuildInfo {
  commit: string;
  /** UTC, ISO 8601. */
  builtAt: string;
  configuration: string;
  compiler: string;
  sanitizer: string;
}

const ROOT = join(import.meta.dirname, '..');

function readJson(file: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(ROOT, file), 'utf8')) as Record<string, unknown>;
}

/** Semantic version, '0.1.0'. */
export function version(): string {
  return String(readJson('package.json').version);
}

/** null when the program runs without having been built by build.sh. */
export function buildInfo(): BuildInfo | null {
  try {
    return readJson('build/version.json') as unknown as BuildInfo;
  } catch {
    return null;
  }
}

/** The page of --version. @param features what this build can do, name → choices. */
export function versionPage(features: Record<string, readonly string[]>): string {
  const build = buildInfo();
  const toggles = Object.entries(features).map(([name, choices]) => `${name}=${choices.join(',')}`);
  if (build !== null) toggles.push(`build=${build.configuration}`, `sanitizer=${build.sanitizer || 'none'}`);
  return [
    `protorelay ${version()}`,
    `commit    ${build?.commit ?? 'unknown'}`,
    `built     ${build?.builtAt ?? 'unknown'}`,
    `platform  ${process.platform}-${process.arch}`,
    `compiler  ${build?.compiler ?? 'unknown'}`,
    `node      ${process.versions.node} (OpenSSL ${process.versions.openssl}, SQLite ${process.versions.sqlite})`,
    `features  ${toggles.join(' ')}`,
  ].join('\n');
}
