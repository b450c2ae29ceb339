// Formats of the usage page: dates, amounts on an axis, costs.
import { count, day, money } from './words.js'

const written = (text, options) =>
  new Date(`${text}T00:00Z`).toLocaleDateString('en-GB', { timeZone: 'UTC', ...options })

/** A date with its year: `20 Nov 2026`. */
export const dated = text => written(text, { day: 'numeric', month: 'short', year: 'numeric' })

/** A day (2026-11-20) as `20 Nov`, a month (2026-11) as `Nov 2026`. */
export const step = text => text.length > 7 ? day(text) : written(`${text}-01`, { month: 'short', year: 'numeric' })

/** A range of dates, with the year once if both have the same. */
export function span(since, until) {
  if (since === until) return dated(since)
  return `${since.slice(0, 4) === until.slice(0, 4) ? day(since) : dated(since)} to ${dated(until)}`
}

/** Dollars beside an axis, without needless digits. */
export const dollars = usd => usd >= 1000 ? `$${count(usd)}` : `$${+usd.toFixed(4)}`

/** The cost of a row; with `≥` if some of its requests have no known price. */
export function cost(row, digits) {
  if (!row.unpriced) return money(row.totalCost, digits)
  return row.totalCost ? `≥ ${money(row.totalCost, digits)}` : 'unknown'
}

export const plural = (n, one, many = `${one}s`) => n === 1 ? one : many
