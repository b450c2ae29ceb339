// One chart on a canvas, drawn by uPlot: days or months along the bottom, series as stacked bars or as lines.
import { node, say } from './dom.js'
import { step } from './ledger-words.js'

const LABEL_PX = 84
const TIP_GAP_PX = 14
const SOME = 60

/**
 * Draws `series` (`{label, values, colour, dash}`; null is a gap) over `steps`, and returns a function that removes it.
 * `axis` and `tip` format a value; `summary` describes the chart to a screen reader.
 */
export function chart(target, steps, series, { stacked = false, lines = false, axis, tip = axis, summary }) {
  target.replaceChildren()
  const box = node('div', { className: 'tip', hidden: true })
  const order = series.map((_, k) => k)
  if (stacked) order.reverse() // the tallest first, the others over it
  const heights = stacked ? stack(series, steps) : series.map(each => each.values)
  const plot = new uPlot({
    width: target.clientWidth,
    height: target.clientHeight,
    padding: [10, 24, 0, 0],
    legend: { show: false },
    cursor: { y: false, move: snap, drag: { x: false, y: false }, points: { show: lines, size: 7 } },
    scales: {
      x: { time: false, range: [-.6, steps.length - .4] },
      y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
    },
    axes: axes(target, steps, axis),
    series: [{}, ...order.map(k => lines ? asLine(series[k]) : asBars(series[k], stacked, steps.length))],
    hooks: { setCursor: [u => point(u.cursor.idx)] },
  }, [steps.map((_, i) => i), ...order.map(k => heights[k])], target)
  target.append(box)

  function point(at) {
    box.hidden = at == null
    if (box.hidden) return
    box.replaceChildren(...tipContent(series, steps, at, { stacked, lines, tip }))
    const x = plot.valToPos(at, 'x') + plot.over.offsetLeft, width = box.offsetWidth
    const fits = x + TIP_GAP_PX + width <= target.clientWidth
    box.style.transform = `translate(${Math.round(fits ? x + TIP_GAP_PX : Math.max(0, x - width - TIP_GAP_PX))}px, 8px)`
  }

  target.tabIndex = 0
  target.role = 'img'
  target.ariaLabel = `${summary} Arrow keys step through the values; the table below has all of them.`
  const leave = walk(target, plot, steps, at => say(`${step(steps[at])}: ${spoken(series, at, tip)}`))
  const seen = new ResizeObserver(() => plot.setSize({ width: target.clientWidth, height: target.clientHeight }))
  seen.observe(target)
  return () => { leave.abort(); seen.disconnect(); plot.destroy() }
}

/** The legend of a chart: the name and the total of each series beside its colour or line. */
export function legend(target, series, lines = false) {
  target.replaceChildren(...series.map(each =>
    node('li', {}, keyOf(each, lines), each.label, node('b', { textContent: each.total }))))
}

/** A patch of a series' colour, or a piece of its line. */
function keyOf({ colour, dash }, lines) {
  const key = node('span', { className: `key ${colour}${lines ? ' line' : ''}` })
  if (dash) key.style.setProperty('--dash', dash[0] > dash[1] ? 'dashed' : 'dotted')
  return key
}

/** Steps through the points with the arrow keys, until Escape or a loss of focus. Returns a controller that ends it. */
function walk(target, plot, steps, arrived) {
  let at = null
  const ended = new AbortController(), { signal } = ended
  const leave = () => { at = null; plot.setCursor({ left: -10, top: -10 }) }
  target.addEventListener('keydown', event => {
    if (event.key === 'Escape') leave()
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (!way) return
    event.preventDefault()
    const start = way > 0 ? -1 : steps.length
    at = Math.max(0, Math.min(steps.length - 1, (at ?? start) + way))
    plot.setCursor({ left: plot.valToPos(at, 'x'), top: 20 })
    arrived(at)
  }, { signal })
  target.addEventListener('blur', leave, { signal })
  return ended
}

function tipContent(series, steps, at, { stacked, lines, tip }) {
  const item = (label, value, key = null) => node('li', {}, key, label, node('b', { textContent: tip(value) }))
  const items = series.map(each => item(each.label, each.values[at], keyOf(each, lines)))
  const sum = series.reduce((sum, each) => sum + each.values[at], 0)
  if (stacked && series.length > 1) items.push(item('Total', sum))
  return [node('p', { textContent: step(steps[at]) }), node('ul', {}, ...items)]
}

const spoken = (series, at, tip) => series.map(each => `${each.label} ${tip(each.values[at])}`).join(', ')

/** The heights of stacked series. Zero is null: a bar of no height would cut into the one below. */
const stack = (series, steps) => series.map((_, k) =>
  steps.map((_, i) => series.slice(0, k + 1).reduce((sum, each) => sum + each.values[i], 0) || null))

const snap = (plot, left, top) => [left < 0 ? left : plot.valToPos(plot.posToIdx(left), 'x'), top]

function axes(target, steps, axis) {
  const font = `12px ${getComputedStyle(document.body).fontFamily}`
  const text = { stroke: paint('--muted'), font, ticks: { show: false } }
  const places = () => {
    const apart = Math.max(1, Math.ceil(steps.length / Math.max(2, Math.floor(target.clientWidth / LABEL_PX))))
    return steps.map((_, i) => i).filter(i => (steps.length - 1 - i) % apart === 0)
  }
  const named = (_, at) => at.map(i => step(steps[i])), worded = (_, at) => at.map(axis)
  return [
    { ...text, grid: { show: false }, gap: 6, size: 28, splits: places, values: named },
    { ...text, grid: { stroke: paint('--line'), width: 1 }, gap: 8, size: 58, space: 44, values: worded },
  ]
}

function asLine({ label, colour, dash }) {
  const stroke = paint(`--series-${colour[1]}`)
  return { label, stroke, width: 2, dash, points: { show: true, size: 7, stroke, fill: stroke, filter: lonePoints } }
}

/** The indices of the points that have no neighbour, and so no line: the first day of a ledger, for instance. */
const lonePoints = (plot, at) => {
  const values = plot.data[at]
  return values.flatMap((value, i) => value != null && values[i - 1] == null && values[i + 1] == null ? [i] : [])
}

function asBars({ label, colour }, stacked, many) {
  const paths = uPlot.paths.bars({ size: [many > SOME ? .76 : .62, 26], radius: stacked ? 0 : .15 })
  const stroke = paint('--paper'), fill = paint(`--series-${colour[1]}`), width = many > SOME ? 0 : 1
  return { label, stroke, fill, width, paths, points: { show: false } }
}

/** A colour of the theme with `light-dark()` resolved, as a canvas needs it. */
function paint(name) {
  const probe = document.body.appendChild(node('i', { hidden: true }))
  probe.style.color = `var(${name})`
  const value = getComputedStyle(probe).color
  probe.remove()
  return value
}
