// The figures at the top, and the spend by model, user and tool, each name a filter, and by project.
import { $, node } from './dom.js'
import { address } from './ledger-address.js'
import { fill } from './ledger-table.js'
import { cost, dated, plural } from './ledger-words.js'
import { exact, money, percent, seconds } from './words.js'

/** Five figures, each with a line of context. */
export function figures({ daily, totals, previous, begins }) {
  const input = totals.cacheReadTokens + totals.inputTokens + totals.cacheCreationTokens
  const isComparable = begins && begins <= previous.since // else the ledger does not cover the time before
  const before = daily.length === 1 ? 'the previous day' : `the previous ${daily.length} days`
  const change = (now, then) => {
    if (!isComparable || !then) return ''
    const by = percent(Math.abs(now / then - 1))
    return by === '0.0 %' ? `the same as ${before}` : `${now >= then ? '+' : '−'}${by} vs. ${before}`
  }
  const { calls, errors, retries, ttft: { p50, p90, p99 } } = totals
  const cached = input ? `${percent(totals.cacheReadTokens / input)} of input was cached` : ''
  const failed = `${exact(errors)} failed, ${exact(retries)} ${plural(retries, 'retry', 'retries')}`
  $('figures').replaceChildren(
    figure('Spent', cost(totals), change(totals.totalCost, previous.totalCost)),
    savings(totals.cacheSavings, cached),
    figure('Calls', exact(calls), change(calls, previous.calls)),
    figure('First token, median', seconds(p50), `p90 ${seconds(p90)}, p99 ${seconds(p99)}`),
    figure('Failed', calls ? percent(errors / calls) : '–', failed),
  )
}

/** Writing to the cache costs more than plain input, so the first calls on a prompt cost before they save. */
const savings = (usd, note) => usd < 0
  ? figure('Cost of the cache', money(-usd), 'written, and not yet read again')
  : figure('Saved by the cache', money(usd), note)

const FILTERS = ['model', 'user', 'tool']

/** Tables with a bar for each share. The name of a model, user or tool is a link to the page with that filter. */
export function shares(report, state) {
  const lists = [...FILTERS, 'project'].map(key => [key, report[`by${key[0].toUpperCase()}${key.slice(1)}`]])
  for (const [key, rows] of lists) {
    const most = Math.max(...rows.map(row => row.totalCost))
    fill($(`by-${key}`), `By ${key}`, [
      ['Name', row => name(row, key, state)],
      ['Share', row => share(most ? row.totalCost / most : 0)],
      ['Calls', row => exact(row.calls)],
      ['Spent', row => cost(row)],
    ], rows, { short: true })
  }
}

/** Explains how the numbers are counted. */
export function foot({ pricing_as_of: prices, totals, begins, since }) {
  const of = /^\d{4}-\d\d-\d\d$/.test(prices) ? `List prices as of ${dated(prices)}` : `List prices of ${prices}`
  const sentences = [
    `${of}.`,
    'Cache savings are the price of cached input as plain input, minus the price of reading and writing the cache.',
    'A call counts on the day of its first request. A failed request that was tried again counts as a retry, any other as failed.',
  ]
  if (totals.unpriced) {
    const those = `${exact(totals.unpriced)} ${plural(totals.unpriced, 'request is', 'requests are')}`
    sentences.push(`${those} not in the costs, because the price of the model is unknown.`)
  }
  if (begins > since) sentences.push(`The ledger begins on ${dated(begins)}.`)
  $('foot').textContent = sentences.join(' ')
}

const figure = (name, value, note) => node('div', {},
  node('dt', { textContent: name }),
  node('dd', { className: 'value', textContent: value }),
  node('dd', { className: 'note', textContent: note }))

function name(row, key, state) {
  const text = row[key] || '(none)'
  if (!FILTERS.includes(key) || !row[key] || state[key] === row[key]) return text
  return node('a', { href: address({ ...state, [key]: row[key] }), textContent: text, title: text })
}

function share(part) {
  if (!part) return ''
  const bar = node('span', { className: 'share' })
  bar.style.inlineSize = `${100 * part}%`
  return bar
}
