// The four charts, each with its legend and its table.
import { $ } from './dom.js'
import { chart, legend } from './ledger-chart.js'
import { fill } from './ledger-table.js'
import { cost, dollars, step } from './ledger-words.js'
import { count, exact, money, percent, seconds } from './words.js'

const COLOURS = 5

/** Draws them all; returns what takes them away again. `per` is `day` or `month`. */
export function charts(told, per) {
  const rows = (per === 'month' ? told.monthly : told.daily).map(row => ({ ...row, step: row.month ?? row.date }))
  const taken = [spend, tokens, waits, faults].map(draw => draw(told, rows, per))
  return () => taken.forEach(take => take())
}

function spend(told, rows, per) {
  const series = models(told, rows), { totals } = told
  const most = rows.reduce((a, b) => b.totalCost > a.totalCost ? b : a)
  const peak = `${per === 'month' ? 'in' : 'on'} ${step(most.step)} with ${money(most.totalCost)}`
  const summary = `Spend by ${per}, stacked by model: ${money(totals.totalCost)} in all, most ${peak}.`
  const tip = usd => money(usd, 2)
  const together = ['Together', row => cost(row, 2)]
  table('spend', `Spend by ${per} and model`, rows, per, [...columns(series, rows, tip), together])
  return drawn('spend', rows, series, { stacked: true, axis: dollars, tip, summary })
}

/** A series for each model; where there are more than colours, the cheapest are one. */
function models(told, rows) {
  const many = told.byModel.length > COLOURS
  const named = many ? told.byModel.slice(0, COLOURS - 1) : told.byModel
  const spent = (row, name) => row.modelBreakdowns.find(part => part.modelName === name)?.cost ?? 0
  const series = named.map((each, k) => ({
    label: each.model.replace(/^claude-/, ''),
    colour: `c${k + 1}`,
    values: rows.map(row => spent(row, each.model)),
    total: cost(each),
  }))
  if (!many) return series
  const others = told.byModel.slice(COLOURS - 1)
  const values = rows.map(row => others.reduce((sum, each) => sum + spent(row, each.model), 0))
  const total = money(values.reduce((a, b) => a + b, 0))
  return [...series, { label: `${others.length} others`, colour: `c${COLOURS}`, values, total }]
}

function tokens({ totals }, rows, per) {
  const series = [
    ['Cached input', 'cacheReadTokens', 'c1'],
    ['Fresh input', 'inputTokens', 'c2'],
    ['Written to cache', 'cacheCreationTokens', 'c5'],
    ['Output', 'outputTokens', 'c3'],
  ].map(([label, key, colour]) => ({ label, colour, values: rows.map(row => row[key]), total: count(totals[key]) }))
  const summary = `Tokens by ${per}: ${series.map(each => `${each.label} ${each.total}`).join(', ')}.`
  const together = ['Together', row => exact(row.totalTokens)]
  table('tokens', `Tokens by ${per}`, rows, per, [...columns(series, rows, exact), together])
  return drawn('tokens', rows, series, { stacked: true, axis: count, summary })
}

function waits({ totals: { ttft } }, rows, per) {
  const series = [['p50', 'c1'], ['p90', 'c2', [6, 4]], ['p99', 'c4', [2, 3]]].map(([label, colour, dash]) =>
    ({ label, colour, dash, values: rows.map(row => row.ttft[label]), total: seconds(ttft[label]) }))
  const [p50, p90, p99] = series.map(each => each.total)
  const summary = `Time to first token by ${per}: median ${p50}, 90th percentile ${p90}, 99th ${p99}.`
  const most = Math.max(...rows.map(row => row.ttft.p99 ?? 0))
  const axis = s => most < 1 ? `${Math.round(s * 1000)} ms` : `${+s.toFixed(1)} s`
  table('ttft', `Time to first token by ${per}`, rows, per, columns(series, rows, seconds))
  return drawn('ttft', rows, series, { lines: true, axis, tip: seconds, summary })
}

function faults({ totals }, rows, per) {
  const series = [['Retries', 'retries', 'c5'], ['Errors', 'errors', 'c4']].map(([label, key, colour]) =>
    ({ label, colour, values: rows.map(row => row[key]), total: exact(totals[key]) }))
  const summary = `Errors and retries by ${per}: ${exact(totals.errors)} errors, ${exact(totals.retries)} retries.`
  const failed = row => row.calls ? percent(row.errors / row.calls) : '–'
  table('faults', `Errors and retries by ${per}`, rows, per, [
    ['Calls', row => exact(row.calls)],
    ['Requests', row => exact(row.requests)],
    ...columns(series, rows, exact).reverse(),
    ['Failed', failed],
  ])
  const axis = n => Number.isInteger(n) ? exact(n) : ''
  return drawn('faults', rows, series, { stacked: true, axis, tip: exact, summary })
}

function drawn(id, rows, series, options) {
  legend($(`${id}-legend`), series, options.lines)
  return chart($(id), rows.map(row => row.step), series, options)
}

/** The newest first. */
function table(id, caption, rows, per, others) {
  const first = [per === 'month' ? 'Month' : 'Day', row => step(row.step)]
  fill($(`${id}-table`), caption, [first, ...others], [...rows].reverse(), { hidden: true })
}

const columns = (series, rows, word) => series.map(each => [each.label, row => word(each.values[rows.indexOf(row)])])
