/*-------------------------------------------------------------------------
 *
 * style.c
 *	  How the pages for people look.
 *
 * On a narrow screen each row of a table becomes a block, whose lines have the headings of
 * their columns in front of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "http/page.h"

/* Colors have a contrast of 4.5 or more with what is behind them, in both schemes. */
const char	page_style[] =
":root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#57606a;--line:#d0d7de;"
"--link:#0550ae;--code:#f3f5f7;"
"--held:#6b4700;--held-back:#fff4d6;--bad:#8a1c12;--bad-back:#ffe9e6;--fine:#0a5c2b;"
"--fine-back:#e3f6e8;"
"--bar:#0969da;--bar-force:#cf222e;--bar-late:#9a6700;--bar-now:#1a7f37}"
"@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--soft:#9aa4af;"
"--line:#3a424c;--link:#79c0ff;--code:#1a2029;"
"--held:#f2cc60;--held-back:#3a2d00;--bad:#ffb3ab;--bad-back:#4a1512;--fine:#7ee2a0;"
"--fine-back:#0f3320;"
"--bar:#58a6ff;--bar-force:#ff7b72;--bar-late:#d29922;--bar-now:#3fb950}}"
"*{box-sizing:border-box}"
"body{margin:0 auto;max-width:76rem;padding:0 1rem 2rem;font:1rem/1.5 system-ui,sans-serif;"
"background:var(--back);"
"color:var(--text);overflow-wrap:anywhere}"
"a{color:var(--link)}"
":focus-visible{outline:3px solid var(--link);outline-offset:2px}"
".skip{position:absolute;left:-200vw}.skip:focus{position:static}"
"header{padding:.7rem 0;border-bottom:1px solid var(--line)}header p{margin:0}"
"header strong{margin-right:.7rem}"
"footer{margin-top:2rem;border-top:1px solid var(--line);color:var(--soft)}"
"h1{font-size:1.5rem;line-height:1.25;margin:1.2rem 0 .5rem}h2{font-size:1.2rem;"
"margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}"
"table{width:100%;border-collapse:collapse}caption{text-align:start}"
"th,td{text-align:start;vertical-align:top;padding:.4rem .8rem .4rem 0;"
"border-bottom:1px solid var(--line);font-weight:400}"
"thead th{color:var(--soft);white-space:nowrap}"
"small,.soft{color:var(--soft);font-size:.875rem}td small,th small,.line{display:block}"
".mark{display:inline-block;padding:0 .5rem;border-radius:.3rem;font-size:.875rem}"
".held{color:var(--held);background:var(--held-back)}.bad{color:var(--bad);"
"background:var(--bad-back)}"
".fine{color:var(--fine);background:var(--fine-back)}.note{padding:.5rem .8rem;"
"border-radius:.3rem}"
"dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:.5rem 0}"
"dt{color:var(--soft)}dd{margin:0}"
"pre{background:var(--code);padding:.6rem .8rem;border-radius:.3rem;white-space:pre-wrap;"
"margin:.3rem 0}"
"code{font:.9rem ui-monospace,monospace}"
"form{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center}"
"input,button{font:inherit;padding:.3rem .6rem;border:1px solid var(--soft);border-radius:.3rem;"
"background:var(--back);color:var(--text)}"
"input{flex:1 1 12rem;min-width:0;max-width:30rem}"
"nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;list-style:none;padding:0}"
"details ul{margin:.2rem 0;padding-left:1.2rem}summary{cursor:pointer}"
"svg{display:block;width:100%;font:.8125rem system-ui,sans-serif}svg text{fill:var(--text)}"
"svg .soft{fill:var(--soft)}"
"svg line{stroke:var(--line)}"
".bar{fill:var(--bar);stroke:var(--bar)}.force{fill:var(--bar-force);stroke:var(--bar-force)}"
".expired,.reclaimed{fill:var(--bar-late);stroke:var(--bar-late)}.now{fill:var(--bar-now);"
"stroke:var(--bar-now)}"
"@media(max-width:44rem){"
"thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}"
"tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}"
"th,td{display:block;border:0;padding:0}td[data-label]::before{content:attr(data-label)\": \";"
"color:var(--soft)}"
"dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}}"
"@media print{:root{color-scheme:light}form,nav,.skip{display:none}}";
