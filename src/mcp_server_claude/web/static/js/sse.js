// Server-sent events over fetch: EventSource can neither POST nor report errors. By the HTML standard,
// "Interpreting an event stream".

const LINE = /\r\n|\n|\r(?!$)/g                     // a CR that ends a chunk may be half of a CRLF

/** The events of a response's body: `event` is `message` where it has no name, `id` the last one that was given. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let buffer = '', event = '', data = [], id = ''
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return                              // an event that was not ended by an empty line does not count
      buffer += value
      const lines = buffer.split(LINE)
      buffer = lines.pop()
      for (const line of lines) {
        if (line === '') {
          if (data.length) yield { event: event || 'message', data: data.join('\n'), id }
          event = ''
          data = []
          continue
        }
        const [, name, text] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line)
        if (name === 'data') data.push(text)
        else if (name === 'event') event = text
        else if (name === 'id' && !text.includes('\0')) id = text
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}
