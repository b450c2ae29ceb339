// The usage page: asks for the numbers that its address means, and shows them.
import { get, signIn } from './api.js'
import { $, node, say } from './dom.js'
import { address, read, request } from './ledger-address.js'
import { charts } from './ledger-charts.js'
import { figures, foot, shares } from './ledger-figures.js'
import { span } from './ledger-words.js'
import { exact, money } from './words.js'

const PERIODS = ['7', '30', '90', '365']
const MANY_DAYS = 100
const NAMES = { model: 'Model', tool: 'Tool', user: 'User' }

let state = read()
let told = null
let takeAway = () => {}
let asking = 0

/** Asks for what the state means and shows it; what was asked for before it counts no more. */
async function load({ quiet = false } = {}) {
  const mine = ++asking
  $('content').ariaBusy = 'true'
  showState()
  try {
    const answer = await get(request('/usage.json', state))
    if (mine !== asking) return
    told = answer
    show()
    const { totalCost, calls } = told.totals
    if (!quiet) say(`${$('range').textContent}: ${money(totalCost)} in ${exact(calls)} calls.`)
  } catch (failure) {
    if (mine !== asking) return
    if (failure.status === 401) return signIn()
    showFault(failure)
  } finally {
    if (mine === asking) $('content').ariaBusy = 'false'
  }
}

function go(next, { focus = null } = {}) {
  state = next
  history.pushState(null, '', address(state))
  focus?.focus()
  load()
}

function show() {
  const empty = !told.totals.requests
  $('fault').hidden = true
  $('nothing').hidden = !empty
  $('told').hidden = empty
  $('range').textContent = `${span(told.since, told.until)}, UTC`
  showState()
  takeAway()
  takeAway = () => {}
  if (empty) return showNothing()
  figures(told)
  shares(told, state)
  foot(told)
  takeAway = charts(told, steps())
}

/** The form and the chips say what the state is. */
function showState() {
  const fixed = PERIODS.includes(state.days) && !state.since && !state.until
  $('period').value = fixed ? state.days : 'dates'
  $('dates').hidden = fixed
  $('since').value = state.since || (told?.since ?? '')
  $('until').value = state.until || (told?.until ?? '')
  $('per').value = steps()
  if (told) showUsers()
  $('csv').href = request('/usage.csv', state)
  const chosen = ['model', 'tool', 'user'].filter(name => state[name] && !(name === 'user' && !$('users').hidden))
  $('chips').hidden = !chosen.length
  $('chips').replaceChildren(...chosen.map(chip))
}

/** An operator may choose among those who ever asked; others see only themselves, and need no such list. */
function showUsers() {
  const names = told.users
  $('users').hidden = $('by-user-part').hidden = !names.length
  $('shares').classList.toggle('two', !names.length)
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
  const filtered = state.model || state.tool || state.user
  $('nothing-what').textContent = told.begins ? 'Nothing was asked in this time.' : 'Nothing was asked yet.'
  const [note] = $('nothing').getElementsByTagName('p')
  const link = (href, textContent) => node('a', { href, textContent })
  if (!told.begins) {
    note.replaceChildren('What is asked on the ', link('/', 'chat page'), ' or by an MCP client will be added up here.')
  } else if (filtered) {
    const all = address({ ...state, model: '', tool: '', user: '' })
    note.replaceChildren('There may be something ', link(all, 'without these filters'), '.')
  } else {
    note.textContent = 'Choose a longer time.'
  }
}

function showFault(failure) {
  $('told').hidden = $('nothing').hidden = true
  $('range').textContent = ''
  $('fault').hidden = false
  $('fault').querySelector('p').textContent = failure.message
  $('again').hidden = !(failure.error?.retryable || failure.status >= 500)
}

const steps = () => state.per || ((told?.daily.length ?? 0) > MANY_DAYS ? 'month' : 'day')

$('filters').addEventListener('change', ({ target }) => {
  if (target.id === 'user') return go({ ...state, user: target.value })
  if (target.id === 'per') {
    state = { ...state, per: target.value }
    history.pushState(null, '', address(state))
    return told && show()
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
// A filter is a link to this very page, which need not be loaded again.
$('content').addEventListener('click', event => {
  const link = event.target.closest('a')
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) && event.button === 0
  if (!link || link.pathname !== '/usage' || !plain) return
  event.preventDefault()
  go(read(link.search), { focus: $('title') })
})
addEventListener('popstate', () => { state = read(); load() })
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => told && show())
load({ quiet: true })
