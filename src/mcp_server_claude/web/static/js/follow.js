// The log follows the text that is being written, while its reader is at the end of it. Elsewhere nothing moves, and a
// button leads back.
import { $ } from './dom.js'

const NEAR = 48                                     // CSS pixels

export const follow = {
  on: true,

  /** The reader has scrolled. */
  check() {
    const { scrollHeight, scrollTop, clientHeight } = $('log')
    this.on = scrollHeight - scrollTop - clientHeight < NEAR
    $('latest').hidden = this.on
  },

  /** Something has grown. */
  keep() {
    if (this.on) $('log').scrollTop = $('log').scrollHeight
    else $('latest').hidden = false
  },

  /** To the end, and stay there. */
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
