// The figures at the top, and where the money goes: by model, user and tool, each name a filter.
import { $, node } from './dom.js'
import { address } from './ledger-address.js'
import { fill } from './ledger-table.js'
import { cost, dated, plural } from './ledger-words.js'
import { exact, money, percent, seconds } from './words.js'

/** Five figures, each with a line of context. */
export function figures({ daily, totals, previous, begins }) {
  const input = totals.cacheReadTokens + totals.inputTokens + totals.cacheCreationTokens
  const known = begins && begins <= previous.since // else there was not yet a ledger to compare with
  const against = daily.length === 1 ? 'the day before' : `the ${daily.length} days before`
  const change = (now, then) => {
    if (!known || !then) return ''
    const by = percent(Math.abs(now / then - 1))
    return by === '0.0 %' ? `as much as on ${against}` : `${now >= then ? '+' : '−'}${by} on ${against}`
  }
  const { calls, errors, retries, ttft: { p50, p90, p99 } } = totals
  const cached = input ? `${percent(totals.cacheReadTokens / input)} of input came from it` : ''
  const again = `${exact(retries)} ${plural(retries, 'retry', 'retries')}`
  $('figures').replaceChildren(
    figure('Spent', cost(totals), change(totals.totalCost, previous.totalCost)),
    figure('Saved by the cache', money(totals.cacheSavings), cached),
    figure('Calls', exact(calls), change(calls, previous.calls)),
    figure('First token, median', seconds(p50), `p90 ${seconds(p90)}, p99 ${seconds(p99)}`),
    figure('Failed', calls ? percent(errors / calls) : '–', `${exact(errors)} ${plural(errors, 'error')}, ${again}`),
  )
}

/** Three tables with a bar for each share. A name is a link to the page with that filter. */
export function shares(told, state) {
  for (const [key, rows] of [['model', told.byModel], ['user', told.byUser], ['tool', told.byTool]]) {
    const most = Math.max(...rows.map(row => row.totalCost))
    fill($(`by-${key}`), `By ${key}`, [
      ['Name', row => name(row, key, state)],
      ['Share', row => share(most ? row.totalCost / most : 0)],
      ['Calls', row => exact(row.calls)],
      ['Spent', row => cost(row, 2)],
    ], rows, { short: true })
  }
}

/** How it was counted. */
export function foot({ pricing_as_of: prices, totals, begins, since }) {
  const of = /^\d{4}-\d\d-\d\d$/.test(prices) ? `List prices as of ${dated(prices)}` : `List prices of ${prices}`
  const sentences = [
    `${of}.`,
    'What the cache saved is what cached input would have cost as plain input, less what reading and writing it cost.',
    'A call counts where its first request was made; a failed request that was tried again is a retry, else an error.',
  ]
  if (totals.unpriced) {
    const those = `${exact(totals.unpriced)} ${plural(totals.unpriced, 'request is', 'requests are')}`
    sentences.push(`${those} not in the dollars: no price of the model is known.`)
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
  if (!row[key] || state[key] === row[key]) return text
  return node('a', { href: address({ ...state, [key]: row[key] }), textContent: text, title: text })
}

function share(part) {
  if (!part) return ''
  const bar = node('span', { className: 'share' })
  bar.style.inlineSize = `${100 * part}%`
  return bar
}
