/**
 * Of which mail an entry of the suppression list speaks: `all`; that of a class (`bulk`); or that of a list, `list:` and the
 * name of a campaign or a List-Id. The filter knows nothing of it: entries are found by address, and then looked at.
 */
import { type Attributes, isAttributeText, isMailClass } from './attributes.ts';

export const SCOPE_ALL = 'all';
const LIST = 'list:';
/** What the class of mail is that names none. */
const USUAL_CLASS = 'normal';

/** A scope in the form in which it is compared; null: it is none. Lists are told apart whatever their case (RFC 2919 §6). */
export function suppressionScope(text: string): string | null {
  const trimmed = text.trim();
  const lower = trimmed.toLowerCase();
  if (lower === SCOPE_ALL || isMailClass(lower)) return lower;
  if (!lower.startsWith(LIST)) return null;
  const name = trimmed.slice(LIST.length).trim();
  const list = (listIdOf(name) ?? name).toLowerCase();
  return isAttributeText(list) ? LIST + list : null;
}

/** @param listId the List-Id of the message, asked for only where it counts; null: it has none. */
export function speaksOf(
  scope: string,
  { class: kind = USUAL_CLASS, campaign }: Attributes,
  listId: () => string | null,
): boolean {
  if (!scope.startsWith(LIST)) return scope === SCOPE_ALL || scope === kind;
  const list = scope.slice(LIST.length);
  return campaign?.toLowerCase() === list || listId()?.toLowerCase() === list;
}

/** What stands between the angle brackets of a field List-Id (RFC 2919 §2); null: there are none. */
export function listIdOf(field: string): string | null {
  const from = field.lastIndexOf('<');
  const to = field.indexOf('>', from);
  return from < 0 || to < 0 ? null : field.slice(from + 1, to).trim();
}
