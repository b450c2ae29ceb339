// Where a question is written: its words, its files, the model and the effort, and the button that sends or stops.
import { $, node, say } from './dom.js'
import { onDrop, pack } from './files.js'
import { chip } from './turns.js'

const EFFORTS = { low: 'Low effort', medium: 'Medium effort', high: 'High effort', xhigh: 'Extra high effort', max: 'Highest effort' }
const ROWS = 12
const WRITTEN = ['text/plain', 'text/html']          // both: from a document or a sheet, with a picture of it
const fine = matchMedia('(pointer: fine)')          // where there is a keyboard, Enter sends

let files = []
let models = []
let reading = Promise.resolve()                    // of files that have been chosen

export const modelName = id => short(models.find(model => model.id === id)?.name ?? id)
const short = name => name.replace(/^Claude (?=\S)/, '')   // who it is goes without saying here

/** Prepares the box; `send(question)` takes what was asked, `stop()` ends the answer. */
export function setUp({ send, stop }) {
  $('form').addEventListener('submit', async event => {
    event.preventDefault()
    await reading
    if (!$('send').hidden && !$('send').disabled) send(taken())
  })
  $('question').addEventListener('input', ready)
  $('question').addEventListener('keydown', event => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || !fine.matches) return
    event.preventDefault()
    $('form').requestSubmit()
  })
  $('question').addEventListener('paste', event => {
    const { files, types } = event.clipboardData
    if (!files.length || WRITTEN.every(type => types.includes(type))) return
    event.preventDefault()
    attach(files)
  })
  $('stop').addEventListener('click', stop)
  $('attach').addEventListener('click', () => $('picker').click())
  $('picker').addEventListener('change', event => {
    attach(event.target.files)
    event.target.value = ''
  })
  onDrop($('drop'), attach)
  $('model').addEventListener('change', () => {
    localStorage.model = $('model').value
    drawEfforts()
  })
  $('effort').addEventListener('change', () => { localStorage.effort = $('effort').value })
  keepDraft()
}

/** The models to choose from. */
export function offer(list) {
  models = list
  $('model').replaceChildren(...list.map(({ id, name }) => node('option', { value: id, textContent: short(name) })))
  choose(localStorage.model, list.find(model => model.default)?.id)
}

/** Chooses the first of these models that there is. */
export function choose(...ids) {
  const id = ids.find(id => models.some(model => model.id === id))
  if (id) $('model').value = id
  drawEfforts()
}

/** While an answer is written, the button stops it. */
export function busy(on) {
  const focused = document.activeElement === $('stop')
  $('stop').hidden = !on
  $('send').hidden = on
  ready()
  if (focused && !on) focusIfTyping()
}

/** Gives a question back that could not be asked, unless a new one has been begun. */
export function restore({ text, files: given }) {
  if (!$('question').value) $('question').value = text
  if (!files.length) files = given
  drawFiles()
  focus()
}

export function begin(text) {
  $('question').value = text
  ready()
  focus()
}

export const chosen = () => ({ model: $('model').value, effort: $('effort').value })
export const focus = () => $('question').focus()
export const focusIfTyping = () => { if (fine.matches) focus() }

function taken() {
  const asked = { text: $('question').value.trim(), files, ...chosen() }
  files = []
  $('question').value = ''
  drawFiles()
  return asked
}

function ready() {
  $('send').disabled = !$('question').value.trim() && !files.length
  if (!CSS.supports('field-sizing: content')) $('question').rows = Math.min(ROWS, $('question').value.split('\n').length)
}

function attach(list) {
  const given = [...list]                           // a drop's list is empty once we have waited
  reading = reading.then(() => read(given))
}

async function read(given) {
  for (const file of given) {
    try {
      files.push(await pack(file))
    } catch {
      say(`${file.name} cannot be read.`)           // e.g. a folder
      continue
    }
    say(`${file.name} is attached.`)
  }
  drawFiles()
  focus()
}

function drawFiles() {
  $('files').replaceChildren(...files.map(file => chip(file, node('button', {
    type: 'button', className: 'quiet', textContent: '×', ariaLabel: `Remove ${file.name}`,
    onclick: () => {
      files = files.filter(other => other !== file)
      drawFiles()
      focus()
    },
  }))))
  ready()
}

function drawEfforts() {
  const efforts = models.find(model => model.id === $('model').value)?.efforts ?? []
  const kept = localStorage.effort
  $('effort').replaceChildren(node('option', { value: '', textContent: 'Default effort' }),
    ...efforts.map(effort => node('option', { value: effort, textContent: EFFORTS[effort] ?? effort })))
  $('effort').value = efforts.includes(kept) ? kept : ''
  $('effort-pick').hidden = !efforts.length
}

/** What was begun survives a reload and a sign-in. */
function keepDraft() {
  $('question').value = sessionStorage.draft ?? ''
  addEventListener('pagehide', () => { sessionStorage.draft = $('question').value })
  ready()
}
