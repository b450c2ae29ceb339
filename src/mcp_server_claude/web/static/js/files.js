// Files on their way into a question: read, and named by what they hold rather than by how they are called.

const MAGIC = [
  ['application/pdf', '%PDF-'],
  ['image/png', '\x89PNG'],
  ['image/jpeg', '\xff\xd8\xff'],
  ['image/gif', 'GIF8'],
]

/** A file as `POST /chat` takes it: `name`, `size`, and `data`, a data URI. */
export async function pack(file) {
  const bytes = new Uint8Array(await file.arrayBuffer())
  const data = await encoded(new Blob([bytes], { type: kind(bytes, file.type) }))
  return { name: file.name, size: file.size, data }
}

function kind(bytes, told) {
  const head = String.fromCharCode(...bytes.subarray(0, 12))
  const known = MAGIC.find(([, magic]) => head.startsWith(magic))
  if (known) return known[0]
  if (head.startsWith('RIFF') && head.endsWith('WEBP')) return 'image/webp'
  return isText(bytes) ? 'text/plain' : told || 'application/octet-stream'
}

function isText(bytes) {
  try {
    return !new TextDecoder('utf-8', { fatal: true }).decode(bytes).includes('\0')
  } catch {
    return false
  }
}

const encoded = blob => new Promise((done, fail) => {
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
