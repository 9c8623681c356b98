/** Why a file cannot be read, in words for people. */
export function fileFault(file: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const faults: Record<string, string> = {
    ENOENT: `${file} is not there`,
    ENOTDIR: `${file} is not there`,
    EACCES: `${file} may not be read by this user`,
    EISDIR: `${file} is a folder, not a file`,
  };
  return faults[code ?? ''] ?? `${file} cannot be read: ${message}`;
}
