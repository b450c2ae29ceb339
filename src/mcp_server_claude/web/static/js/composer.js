// The form of a question: its text and files, the model and the effort, and the button that sends or stops.
import { $, node, say } from './dom.js'
import { onDrop, pack, Rejection } from './files.js'
import { chip } from './turns.js'

const EFFORTS = { low: 'Low effort', medium: 'Medium effort', high: 'High effort', xhigh: 'Extra high effort', max: 'Highest effort' }
const ROWS = 12
const MAX_REASONS = 3                               // of rejected files, shown at once
const WRITTEN = ['text/plain', 'text/html']          // both: from a document or a sheet, with a picture of it
const fine = matchMedia('(pointer: fine)')          // with a keyboard, Enter sends

let files = []
let models = []
let reading = Promise.resolve()                    // of files that have been chosen
let isBusy = false                                 // an answer is being written

export const modelName = id => short(models.find(model => model.id === id)?.name ?? id)
const short = name => name.replace(/^Claude (?=\S)/, '')   // who it is goes without saying here

/** Binds the form; `send(question)` asks, `stop()` ends the answer that is being written. */
export function setUp({ send, stop }) {
  $('form').addEventListener('submit', async event => {
    event.preventDefault()
    await reading
    if ($('send').disabled || rejectUnsupported()) return
    if (isBusy) setQueued(true)
    else send(take())
  })
  $('question').addEventListener('input', () => {
    setQueued(false)
    ready()
  })
  $('unqueue').addEventListener('click', () => {
    setQueued(false)
    focus()
  })
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

/**
 * Shows whether an answer is being written: then the button stops it, and what is sent waits for its end. With
 * `sendQueued` the question that waits is sent now; otherwise it stays in the form.
 */
export function busy(on, { sendQueued = false } = {}) {
  const focused = document.activeElement === $('stop'), wasQueued = !$('queued').hidden
  isBusy = on
  $('stop').hidden = !on
  $('send').hidden = on
  ready()
  if (focused && !on) focusIfTyping()
  if (on) return
  setQueued(false)
  if (wasQueued && sendQueued) $('form').requestSubmit()
}

function setQueued(on) {
  if ($('queued').hidden === !on) return
  $('queued').hidden = !on
  if (on) say('Your message will be sent when this answer is complete.')
}

/** Puts a question that failed back into the form, unless a new one has been started. */
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

/** The question of the form, which is then empty. */
function take() {
  const asked = { text: $('question').value.trim(), files, ...chosen() }
  files = []
  reject([])
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
  const rejected = []
  for (const file of given) {
    try {
      files.push(await pack(file, files))
      say(`${file.name} is attached.`)
    } catch (problem) {
      if (!(problem instanceof Rejection)) throw problem
      rejected.push(problem.message)
    }
  }
  reject(rejected)
  drawFiles()
  focus()
}

/** Shows why files were not attached, until the next change of the files. */
function reject(reasons) {
  const more = reasons.length - MAX_REASONS
  const shown = more > 0 ? [...reasons.slice(0, MAX_REASONS), `${more} more files were not attached.`] : reasons
  $('rejected').hidden = !shown.length
  $('rejected').replaceChildren(...shown.map(text => node('p', { textContent: text })))
}

/** True if the chosen model cannot read one of the files; says which. */
function rejectUnsupported() {
  const model = models.find(model => model.id === $('model').value)
  const kind = ({ type }) => type.startsWith('image/') ? 'images' : type === 'application/pdf' ? 'pdf' : ''
  const file = model && files.find(file => kind(file) && !model[kind(file)])
  if (file) reject([`${short(model.name)} cannot read “${file.name}”. Choose another model, or remove the file.`])
  return Boolean(file)
}

function drawFiles() {
  $('files').replaceChildren(...files.map(file => chip(file, node('button', {
    type: 'button', className: 'quiet', textContent: '×', ariaLabel: `Remove ${file.name}`,
    onclick: () => {
      files = files.filter(other => other !== file)
      reject([])
      setQueued(false)
      drawFiles()
      focus()
    },
  }))))
  $('files').scrollTop = $('files').scrollHeight
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

/** Keeps the text of the form across a reload and a sign-in. */
function keepDraft() {
  $('question').value = sessionStorage.draft ?? ''
  addEventListener('pagehide', () => { sessionStorage.draft = $('question').value })
  ready()
}
