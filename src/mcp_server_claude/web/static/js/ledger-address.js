// What is shown, as it stands in the address: it can be sent to somebody, and the back button goes back.

const FILTERS = ['user', 'model', 'tool']
const KNOWN = ['days', 'since', 'until', 'per', ...FILTERS]
const USUAL_DAYS = '30'

/** The state that an address means: `days`, or `since` and `until`; `per` and the filters; '' where not given. */
export function read(search = location.search) {
  const given = new URLSearchParams(search)
  const state = Object.fromEntries(KNOWN.map(name => [name, given.get(name) ?? '']))
  if (!state.days && !state.since && !state.until) state.days = USUAL_DAYS
  return state
}

/** The address of a state on the page. */
export function address(state) {
  const query = said(state, state.days === USUAL_DAYS ? KNOWN.slice(1) : KNOWN)
  return query ? `/usage?${query}` : '/usage'
}

/** What the server is asked for: the numbers (`/usage.json`) or the lines (`/usage.csv`). */
export const request = (path, state) => `${path}?${said(state, ['days', 'since', 'until', ...FILTERS])}`

function said(state, names) {
  return new URLSearchParams(names.filter(name => state[name]).map(name => [name, state[name]])).toString()
}
