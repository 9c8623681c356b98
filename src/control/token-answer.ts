/** A token as operators read it, without what is kept of its secret. */
export interface TokenAnswer {
  id: string;
  name: string;
  role: string;
  tenants: readonly string[];
  networks: readonly string[];
  created_at: string;
  ends_at: string | null;
}

export const tokenAnswer = ({
  id,
  name,
  role,
  tenants,
  networks,
  created_at,
  ends_at,
}: TokenAnswer): TokenAnswer => ({ id, name, role, tenants, networks, created_at, ends_at });
