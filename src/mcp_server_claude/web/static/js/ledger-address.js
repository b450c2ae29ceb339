// The state of the usage page in its address, so that it can be shared and the back button works.

const FILTERS = ['user', 'model', 'tool', 'job']
const KNOWN = ['days', 'since', 'until', 'per', ...FILTERS]
const USUAL_DAYS = '30'

/** The state of an address: `days`, or `since` and `until`; `per` and the filters; empty if missing. */
export function read(search = location.search) {
  const given = new URLSearchParams(search)
  const state = Object.fromEntries(KNOWN.map(name => [name, given.get(name) ?? '']))
  if (!state.days && !state.since && !state.until) state.days = USUAL_DAYS
  return state
}

/** The address of a state on the page. */
export function address(state) {
  const query = queryOf(state, state.days === USUAL_DAYS ? KNOWN.slice(1) : KNOWN)
  return query ? `/usage?${query}` : '/usage'
}

/** The request of a state: the report (`/usage.json`) or its rows (`/usage.csv`). */
export const request = (path, state) => `${path}?${queryOf(state, ['days', 'since', 'until', ...FILTERS])}`

function queryOf(state, names) {
  return new URLSearchParams(names.filter(name => state[name]).map(name => [name, state[name]])).toString()
}
