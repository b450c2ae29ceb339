// Files for a question: checked, read, and typed by what they contain rather than by their names.
import { exact, size } from './words.js'

const MAGIC = [
  ['application/pdf', '%PDF-'],
  ['image/png', '\x89PNG'],
  ['image/jpeg', '\xff\xd8\xff'],
  ['image/gif', 'GIF8'],
]
const TYPES = 'Claude reads text, PDF, PNG, JPEG, GIF and WebP files.'
const OFFICE = /\.(docx?|pptx?|odt|odp|pages|key)$/i, SHEET = /\.(xlsx?|xlsm|ods|numbers)$/i
const BASE64 = 4 / 3                                // characters for each byte
const HEAD = 4096                                   // bytes that show whether text is UTF-16

/** Limits until the server has named its own. */
export const limits = { files: 100, bytes: 30_000_000, text_chars: 4_000_000 }

/** A reason not to attach a file, as a sentence. */
export class Rejection extends Error {}

/**
 * A file as `POST /chat` takes it: `name`, `size`, and `data`, a data URI; `sent` is its size in a request. `others` are
 * those that are attached already.
 * Throws a Rejection for a file that the server would refuse.
 */
export async function pack(file, others) {
  const name = `“${file.name}”`
  if (others.length >= limits.files) throw new Rejection(`${name} was not attached: a message can have ${limits.files} files at most.`)
  if (file.size > limits.bytes) throw new Rejection(`${name} is ${size(file.size)}. At most ${size(limits.bytes)} can be sent.`)
  if (!file.size) throw new Rejection(`${name} is empty.`)
  const bytes = await read(file)
  const type = mediaType(bytes, file.type)
  if (!type) throw new Rejection(`${name} cannot be sent: ${TYPES}${advice(file.name)}`)
  const sent = type === 'text/plain' ? bytes.length : bytes.length * BASE64
  const together = others.reduce((sum, other) => sum + other.sent, sent)
  if (together > limits.bytes) {
    throw new Rejection(`${name} was not attached: the files of a message would be ${size(together)} together, at most ${size(limits.bytes)} can be sent.`)
  }
  if (type === 'text/plain' && bytes.length > 4 * limits.text_chars) {
    throw new Rejection(`${name} is too long: at most ${exact(limits.text_chars)} characters can be sent.`)
  }
  return { name: file.name, size: file.size, sent, type, data: await encode(new Blob([bytes], { type })) }
}

async function read(file) {
  try {
    return new Uint8Array(await file.arrayBuffer())
  } catch {
    throw new Rejection(`“${file.name}” cannot be read. A folder must be attached file by file.`)
  }
}

/** The media type by the first bytes; empty for binary data that Claude does not take. The server looks closer. */
function mediaType(bytes, declared) {
  const head = String.fromCharCode(...bytes.subarray(0, 12))
  const known = MAGIC.find(([, magic]) => head.startsWith(magic))
  if (known) return known[0]
  if (head.startsWith('RIFF') && head.endsWith('WEBP')) return 'image/webp'
  if (head.startsWith('{\\rtf') || head.startsWith('PK\x03\x04')) return ''
  if (!bytes.includes(0)) return isUtf8(bytes) ? 'text/plain' : declared || 'application/octet-stream'
  return isUtf16(bytes) ? 'text/plain' : ''
}

function isUtf8(bytes) {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

/** True with a byte-order mark of UTF-16 or UTF-32, or where every other byte is zero. */
function isUtf16(bytes) {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) return true
  if (bytes[0] === 0 && bytes[1] === 0 && bytes[2] === 0xfe && bytes[3] === 0xff) return true
  const zeros = [0, 0]
  for (let i = 0; i < Math.min(bytes.length, HEAD); i++) zeros[i % 2] += bytes[i] === 0
  const pairs = Math.min(bytes.length, HEAD) / 2
  return Math.max(...zeros) > .4 * pairs && Math.min(...zeros) < .05 * pairs
}

function advice(name) {
  if (OFFICE.test(name)) return ' Export it as PDF.'
  return SHEET.test(name) ? ' Export it as CSV.' : ''
}

const encode = blob => new Promise((done, fail) => {
  const reader = new FileReader()
  reader.onload = () => done(reader.result)
  reader.onerror = () => fail(reader.error)
  reader.readAsDataURL(blob)
})

/** Takes files that are dropped anywhere on the page; `hint` shows while some are above it. */
export function onDrop(hint, take) {
  let depth = 0                                     // enter and leave come for every element on the way
  const carries = event => event.dataTransfer?.types.includes('Files')
  const listen = (type, act) => addEventListener(type, event => {
    if (!carries(event)) return
    event.preventDefault()
    act(event)
    hint.hidden = depth <= 0
  })
  listen('dragenter', () => { depth++ })
  listen('dragover', () => {})
  listen('dragleave', () => { depth-- })
  listen('drop', event => {
    depth = 0
    take(event.dataTransfer.files)
  })
}
