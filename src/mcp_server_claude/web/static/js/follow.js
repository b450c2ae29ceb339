// The log follows the text that is being written while it is scrolled to its end. Otherwise it does not move, and a
// button scrolls to the end.
import { $ } from './dom.js'

const NEAR = 48                                     // CSS pixels

export const follow = {
  on: true,

  /** Call after a scroll. */
  check() {
    const { scrollHeight, scrollTop, clientHeight } = $('log')
    this.on = scrollHeight - scrollTop - clientHeight < NEAR
    $('latest').hidden = this.on
  },

  /** Call after the content has grown. */
  keep() {
    if (this.on) $('log').scrollTop = $('log').scrollHeight
    else $('latest').hidden = false
  },

  /** Scrolls to the end and follows from there. */
  now() {
    this.on = true
    $('latest').hidden = true
    this.keep()
  },
}

$('log').addEventListener('scroll', () => follow.check(), { passive: true })
$('latest').addEventListener('click', () => follow.now())
const sizes = new ResizeObserver(() => follow.keep())
sizes.observe($('turns'))
sizes.observe($('log'))                             // the question below it grows, too
