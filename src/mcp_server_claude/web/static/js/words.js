// Numbers and dates in words.

const whole = new Intl.NumberFormat('en-US')
const UNITS = [['k', 1e3], ['M', 1e6], ['B', 1e9]]
const DAY_MS = 86_400_000

export const exact = n => whole.format(n)

/** A count in at most four characters (812, 1.2k, 48k, 1.3M, 3.1B), as the server writes it elsewhere. */
export function count(n) {
  if (n < 1000) return String(Math.round(n))
  for (const [unit, size] of UNITS) {
    const value = n / size
    if (value < 9.95) return value.toFixed(1).replace(/\.0$/, '') + unit
    if (value < 999.5) return value.toFixed(0) + unit
  }
  return `${whole.format(Math.round(n / 1e9))}B`
}

/** Dollars with the digits that matter ($0.0004, $0.031, $1.24), as the server writes them elsewhere, or with `digits`. */
export function money(usd, digits = digitsOf(Math.abs(usd))) {
  if (usd === 0 && digits === 0) return '$0'
  const least = 10 ** -digits
  if (usd !== 0 && Math.abs(usd) < (digits === 4 ? least : least / 2)) return `<$${least.toFixed(digits)}`
  const amount = Math.abs(usd).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  return `${usd < 0 ? '−' : ''}$${amount}`
}

function digitsOf(usd) {
  if (usd === 0) return 0
  if (usd < .01) return 4
  return usd < 1 ? 3 : 2
}

export function seconds(s) {
  if (s == null) return '–'
  return s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(s < 10 ? 2 : 1)} s`
}

export const percent = x => `${(100 * x).toFixed(Math.abs(x) < .1 ? 1 : 0)} %`

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`
  return bytes < 999_500 ? `${Math.round(bytes / 1000)} kB` : `${+(bytes / 1e6).toFixed(1)} MB`
}

/** A date (`2026-11-20`) as `20 Nov`. */
export const day = text =>
  new Date(`${text}T00:00Z`).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' })

/** How long ago a moment (unix seconds) was, in the words of a list. */
export function when(at) {
  const midnight = moment => new Date(moment).setHours(0, 0, 0, 0)
  const days = Math.round((midnight(Date.now()) - midnight(at * 1000)) / DAY_MS)
  if (days <= 0) return 'Today'
  if (days === 1) return 'Yesterday'
  return days < 7 ? 'This week' : 'Earlier'
}
