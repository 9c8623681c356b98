/** Which methods a path takes, for those who came with another one. */
export interface KnownRoute {
  methods: readonly string[];
  /** As /api/v1/messages/:id/why */
  url: string;
}

export function allowedMethods(routes: readonly KnownRoute[], path: string): string[] {
  const parts = path.split('/');
  const fits = ({ url }: KnownRoute): boolean => {
    const pattern = url.split('/');
    return (
      pattern.length === parts.length &&
      pattern.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i]))
    );
  };
  const methods = new Set(routes.filter(fits).flatMap((route) => route.methods));
  return methods.size === 0 ? [] : [...methods, 'OPTIONS'].sort();
}
