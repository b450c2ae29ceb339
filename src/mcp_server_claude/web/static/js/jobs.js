// The background jobs of the user: a dialog with their progress, a button that stops one, and links to its output.
import { Failure, get, post } from './api.js'
import { $, node, say } from './dom.js'
import { exact, money } from './words.js'

const POLL_INTERVAL_MS = 2_000, MAX_JOBS = 50
const STATES = { running: 'Running', complete: 'Complete', incomplete: 'Incomplete', cancelled: 'Stopped' }

let timer = 0
let drawn = ''

/** Binds the button that opens the list. */
export function setUp() {
  $('show-jobs').addEventListener('click', () => {
    $('jobs').showModal()
    load()
  })
  $('jobs').addEventListener('close', () => clearTimeout(timer))
}

/** Loads and draws the list, and again while it is open. */
async function load() {
  clearTimeout(timer)
  try {
    const { jobs } = await get(`/jobs?limit=${MAX_JOBS}`)
    $('jobs-fault').textContent = ''
    draw(jobs)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    $('jobs-fault').textContent = failure.message
  }
  if ($('jobs').open) timer = setTimeout(load, POLL_INTERVAL_MS)
}

function draw(jobs) {
  const state = JSON.stringify(jobs)
  if (state === drawn) return
  drawn = state
  const focus = $('job-list').contains(document.activeElement) ? document.activeElement.id : ''
  $('no-jobs').hidden = jobs.length > 0
  $('job-list').replaceChildren(...jobs.map(item))
  if (focus) ($(focus) ?? $('close-jobs')).focus()
}

function item(job) {
  const ended = job.done + job.failed + job.cancelled
  const output = (format, label) => node('a', {
    className: 'button', id: `${format}-${job.id}`, href: `/jobs/${job.id}/output?format=${format}`, download: '',
    textContent: label, ariaLabel: `Download ${job.title || job.tool} as ${label}`,
  })
  return node('li', { className: 'job' },
    node('p', { className: 'job-title', dir: 'auto', textContent: job.title || job.tool }),
    node('p', { className: 'muted num', textContent: summary(job, ended) }),
    job.state === 'running' ? node('progress', { className: 'budget', max: Math.max(1, job.items), value: ended, ariaLabel: 'Items that have ended' }) : null,
    node('div', { className: 'row' },
      job.state === 'running' ? node('button', {
        type: 'button', id: `stop-${job.id}`, textContent: 'Stop', ariaLabel: `Stop ${job.title || job.tool}`, onclick: event => stop(job, event.currentTarget),
      }) : null,
      ...job.done ? [output('jsonl', 'JSONL'), output('csv', 'CSV')] : []))
}

function summary({ state, items, failed, cost_usd: cost, reason, created_at: at, model }, ended) {
  return [
    STATES[state] ?? state,
    items === 1 ? '' : `${exact(ended)} of ${exact(items)} items`,
    failed ? `${exact(failed)} failed` : '',
    cost == null ? 'price unknown' : money(cost),
    model.replace(/^claude-/, ''),
    new Date(at * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }),
    reason,
  ].filter(Boolean).join(' · ')
}

async function stop(job, button) {
  button.disabled = true
  try {
    await post(`/jobs/${job.id}/stop`, {})
    say(`${job.title || job.tool} is being stopped.`)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    $('jobs-fault').textContent = failure.message
  }
  drawn = ''
  load()
}
