// Numbers as people read them.

const whole = new Intl.NumberFormat('en-US')
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 })
const DAY_MS = 86_400_000

export const exact = n => whole.format(n)
export const count = n => n < 1000 ? whole.format(n) : short.format(n).toLowerCase().replace('b', 'bn')

/** Dollars: three digits after the point below one dollar, else two, or as many as `digits` says. */
export function money(usd, digits = usd !== 0 && Math.abs(usd) < 1 ? 3 : 2) {
  const least = 10 ** -digits
  if (usd !== 0 && Math.abs(usd) < least / 2) return `<$${least.toFixed(digits)}`
  const amount = Math.abs(usd).toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  return `${usd < 0 ? '−' : ''}$${amount}`
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
