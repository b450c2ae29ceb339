// The usage page: loads and shows the report that its address selects.
import { get, signIn } from './api.js'
import { $, node, say } from './dom.js'
import { address, read, request } from './ledger-address.js'
import { charts } from './ledger-charts.js'
import { figures, foot, shares } from './ledger-figures.js'
import { span } from './ledger-words.js'
import { exact, money } from './words.js'

const PERIODS = ['7', '30', '90', '365']
const MANY_DAYS = 100
const NAMES = { model: 'Model', tool: 'Tool', user: 'User', job: 'Job' }

let state = read()
let report = null
let removeCharts = () => {}
let loading = 0

/** Loads the report of the state and shows it; a later load replaces an earlier one. */
async function load({ quiet = false } = {}) {
  const mine = ++loading
  $('content').ariaBusy = 'true'
  showState()
  try {
    const answer = await get(request('/usage.json', state))
    if (mine !== loading) return
    report = answer
    show()
    const { totalCost, calls } = report.totals
    if (!quiet) say(`${$('range').textContent}: ${money(totalCost)} in ${exact(calls)} calls.`)
  } catch (failure) {
    if (mine !== loading) return
    if (failure.status === 401) return signIn()
    showFault(failure)
  } finally {
    if (mine === loading) $('content').ariaBusy = 'false'
  }
}

function go(next, { focus = null } = {}) {
  state = next
  history.pushState(null, '', address(state))
  focus?.focus()
  load()
}

function show() {
  const empty = !report.totals.requests
  $('fault').hidden = true
  $('nothing').hidden = !empty
  $('report').hidden = empty
  $('range').textContent = `${span(report.since, report.until)}, UTC`
  showState()
  removeCharts()
  removeCharts = () => {}
  if (empty) return showNothing()
  figures(report)
  shares(report, state)
  foot(report)
  removeCharts = charts(report, steps())
}

/** Shows the state in the form and the chips. */
function showState() {
  const fixed = PERIODS.includes(state.days) && !state.since && !state.until
  $('period').value = fixed ? state.days : 'dates'
  $('dates').hidden = fixed
  $('since').value = state.since || (report?.since ?? '')
  $('until').value = state.until || (report?.until ?? '')
  $('per').value = steps()
  if (report) showUsers()
  $('csv').href = request('/usage.csv', state)
  const chosen = ['model', 'tool', 'user', 'job'].filter(name => state[name] && !(name === 'user' && !$('users').hidden))
  $('chips').hidden = !chosen.length
  $('chips').replaceChildren(...chosen.map(chip))
}

/** Offers an operator the users of the ledger; other users see only themselves. */
function showUsers() {
  const names = report.users
  $('users').hidden = $('by-user-part').hidden = !names.length
  $('shares').classList.toggle('three', !names.length)
  const listed = state.user && !names.includes(state.user) ? [...names, state.user] : names
  const option = (value, textContent = value) => node('option', { value, textContent })
  $('user').replaceChildren(option('', 'Everyone'), ...listed.map(name => option(name)))
  $('user').value = state.user
}

const chip = name => node('li', {}, node('a', {
  className: 'button chip',
  href: address({ ...state, [name]: '' }),
  ariaLabel: `${NAMES[name]} ${state[name]}: remove this filter`,
}, `${NAMES[name]}: ${state[name]}`, node('span', { textContent: '×', ariaHidden: 'true' })))

function showNothing() {
  const filtered = state.model || state.tool || state.user || state.job
  $('nothing-what').textContent = report.begins ? 'No usage in this period.' : 'No usage yet.'
  const [note] = $('nothing').getElementsByTagName('p')
  const link = (href, textContent) => node('a', { href, textContent })
  if (!report.begins) {
    note.replaceChildren('Requests of the ', link('/', 'chat page'), ' and of MCP clients will appear here.')
  } else if (filtered) {
    const all = address({ ...state, model: '', tool: '', user: '', job: '' })
    note.replaceChildren(link(all, 'Remove the filters'), ', or choose a longer period.')
  } else {
    note.textContent = 'Choose a longer period.'
  }
}

function showFault(failure) {
  $('report').hidden = $('nothing').hidden = true
  $('range').textContent = ''
  $('fault').hidden = false
  $('fault').querySelector('p').textContent = failure.message
  $('again').hidden = !(failure.error?.retryable || failure.status >= 500)
}

function print(on) {
  document.documentElement.toggleAttribute('data-print', on)
  if (report) show()
}

const steps = () => state.per || ((report?.daily.length ?? 0) > MANY_DAYS ? 'month' : 'day')

$('filters').addEventListener('change', ({ target }) => {
  if (target.id === 'user') return go({ ...state, user: target.value })
  if (target.id === 'per') {
    state = { ...state, per: target.value }
    history.pushState(null, '', address(state))
    return report && show()
  }
  const dates = $('period').value === 'dates'
  if (!dates) return go({ ...state, days: $('period').value, since: '', until: '', per: '' })
  $('dates').hidden = false
  if (target.id === 'period') return $('since').focus()
  const [since, until] = [$('since').value, $('until').value]
  if (since && until) go({ ...state, days: '', since, until, per: '' })
})
$('filters').addEventListener('submit', event => event.preventDefault())
$('again').addEventListener('click', () => load())
// A filter is a link to this page, which does not have to be loaded again.
$('content').addEventListener('click', event => {
  const link = event.target.closest('a')
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) && event.button === 0
  if (!link || link.pathname !== '/usage' || !plain) return
  event.preventDefault()
  go(read(link.search), { focus: $('title') })
})
addEventListener('popstate', () => { state = read(); load() })
// Paper is light, and as wide as it is.
addEventListener('beforeprint', () => print(true))
addEventListener('afterprint', () => print(false))
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => report && show())
load({ quiet: true })
