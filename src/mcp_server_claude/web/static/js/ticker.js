// Text that changes every second: a countdown, or the seconds that something has taken.

const SECOND_MS = 1000

export class Ticker {
  #timer = 0

  /** Calls `draw()` now and every second, until `stop()` or the next `start()`. */
  start(draw) {
    this.stop()
    draw()
    this.#timer = setInterval(draw, SECOND_MS)
  }

  stop() {
    clearInterval(this.#timer)
  }
}

/** A wait in words, by the server's text (`overloaded, trying again in 21 s (2 of 9)`) and the unix time of its end. */
export function countdown(text, until) {
  const [, reason, seconds, attempt = ''] = /^(.*), trying again in (.+? s|\d+ min)( \(.+\))?$/.exec(text) ?? []
  if (!reason || until == null) return () => text
  return () => {
    const left = Math.ceil(until - Date.now() / SECOND_MS)
    const isCredible = left <= Math.ceil(asSeconds(seconds)) + 1   // else the clocks differ
    return left > 0 && isCredible ? `${reason}, trying again in ${inWords(left)}${attempt}` : `${reason}, trying again${attempt}`
  }
}

export const inWords = seconds => seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`

function asSeconds(text) {
  const [, minutes = 0, seconds = 0] = /^(?:(\d+) min)? ?(?:([\d.]+) s)?$/.exec(text) ?? []
  return 60 * minutes + Number(seconds)
}
