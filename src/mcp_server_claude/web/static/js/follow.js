// The log follows the text that is being written while it is scrolled to its end. Otherwise it does not move, and a
// button scrolls to the end.
import { $ } from './dom.js'

const NEAR = 48                                     // CSS pixels
const KEYS_UP = ['Home', 'PageUp', 'ArrowUp']

export const follow = {
  on: true,
  leaving: false,                                   // the reader has begun to scroll up, and is still near the end

  /** Call after a scroll. */
  check() {
    const { scrollHeight, scrollTop, clientHeight } = $('log')
    const isNear = scrollHeight - scrollTop - clientHeight < NEAR
    this.leaving &&= isNear
    this.on = isNear && !this.leaving
    $('latest').hidden = this.on
  },

  /** Call after the content has grown. */
  keep() {
    if (this.on) $('log').scrollTop = $('log').scrollHeight
    else $('latest').hidden = false
  },

  /** Call when the reader scrolls up or down. A smooth scroll takes a while to leave the end: new text would end it. */
  turn(isUp) {
    this.leaving = isUp && $('log').scrollTop > 0
    if (this.leaving) this.on = false
    else this.check()
  },

  /** Scrolls to the end and follows from there. */
  now() {
    this.on = true
    this.leaving = false
    $('latest').hidden = true
    this.keep()
  },
}

$('log').addEventListener('scroll', () => follow.check(), { passive: true })
$('log').addEventListener('keydown', event => follow.turn(KEYS_UP.includes(event.key)))
$('log').addEventListener('wheel', event => follow.turn(event.deltaY < 0), { passive: true })
$('log').addEventListener('pointerdown', () => follow.turn(false), { passive: true })
$('latest').addEventListener('click', () => follow.now())
const sizes = new ResizeObserver(() => follow.keep())
sizes.observe($('turns'))
sizes.observe($('log'))                             // the question below it grows, too
