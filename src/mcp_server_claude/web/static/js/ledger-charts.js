// The four charts, each with its legend and its table.
import { $ } from './dom.js'
import { chart, legend } from './ledger-chart.js'
import { fill } from './ledger-table.js'
import { cost, dollars, step } from './ledger-words.js'
import { count, exact, money, percent, seconds } from './words.js'

const COLOURS = 5

/** Draws the charts of a report; returns a function that removes them. `per` is `day` or `month`. */
export function charts(report, per) {
  const rows = (per === 'month' ? report.monthly : report.daily).map(row => ({ ...row, step: row.month ?? row.date }))
  const removers = [spend, tokens, waits, failures].map(draw => draw(report, rows, per))
  return () => removers.forEach(remove => remove())
}

function spend(report, rows, per) {
  const series = models(report, rows), { totals } = report
  const most = rows.reduce((a, b) => b.totalCost > a.totalCost ? b : a)
  const peak = `${per === 'month' ? 'in' : 'on'} ${step(most.step)} with ${money(most.totalCost)}`
  const summary = `Spend by ${per}, stacked by model: ${money(totals.totalCost)} in total, most ${peak}.`
  const total = ['Total', row => cost(row)]
  table('spend', `Spend by ${per} and model`, rows, per, [...columns(series, rows, money), total])
  return drawn('spend', rows, series, { stacked: true, axis: dollars, tip: usd => money(usd), summary })
}

/** A series for each model; if there are more models than colours, the cheapest are one series. */
function models(report, rows) {
  const many = report.byModel.length > COLOURS
  const named = many ? report.byModel.slice(0, COLOURS - 1) : report.byModel
  const spent = (row, name) => row.modelBreakdowns.find(part => part.modelName === name)?.cost ?? 0
  const series = named.map((each, k) => ({
    label: each.model.replace(/^claude-/, ''),
    colour: `c${k + 1}`,
    values: rows.map(row => spent(row, each.model)),
    total: cost(each),
  }))
  if (!many) return series
  const others = report.byModel.slice(COLOURS - 1)
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
  const total = ['Total', row => exact(row.totalTokens)]
  table('tokens', `Tokens by ${per}`, rows, per, [...columns(series, rows, exact), total])
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

function failures({ totals }, rows, per) {
  const series = [['Retries', 'retries', 'c5'], ['Failed', 'errors', 'c4']].map(([label, key, colour]) =>
    ({ label, colour, values: rows.map(row => row[key]), total: exact(totals[key]) }))
  const summary = `Failures and retries by ${per}: ${exact(totals.errors)} failed, ${exact(totals.retries)} retries.`
  const share = row => row.calls ? percent(row.errors / row.calls) : '–'
  table('failures', `Failures and retries by ${per}`, rows, per, [
    ['Calls', row => exact(row.calls)],
    ['Requests', row => exact(row.requests)],
    ...columns(series, rows, exact).reverse(),
    ['Failed share', share],
  ])
  const axis = n => Number.isInteger(n) ? exact(n) : ''
  return drawn('failures', rows, series, { stacked: true, axis, tip: exact, summary })
}

function drawn(id, rows, series, options) {
  legend($(`${id}-legend`), series, options.lines)
  return chart($(id), rows.map(row => row.step), series, options)
}

/** Fills a table, the newest row first. */
function table(id, caption, rows, per, others) {
  const first = [per === 'month' ? 'Month' : 'Day', row => step(row.step)]
  fill($(`${id}-table`), caption, [first, ...others], [...rows].reverse(), { hidden: true })
}

const columns = (series, rows, format) => series.map(each => [each.label, row => format(each.values[rows.indexOf(row)])])
