"""The style sheet of the page: light and dark, phone and desktop."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #62666e;
  --line: #e2dfd9; --glow: 255 171 25; --bar: #3f6fb5; --dead: #b4493f; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1d2024; --ink: #e8e6e1;
  --soft: #9ea3ab; --line: #33373d; --glow: 184 98 6; --bar: #7da7e3; --dead: #dd8078; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Apple SD Gothic Neo", "Noto Sans CJK KR", sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 0; font-size: 1.05rem; }
p { margin: .4rem 0; }
a { color: inherit; }
.soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: .85rem; }
th:first-child, td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; max-width: 44rem; height: auto; }
svg text { fill: var(--soft); font-size: 13px; }
svg .axis { stroke: var(--line); }
svg .bar { fill: var(--bar); }
svg .dead { fill: var(--dead); }
svg .limit { stroke: var(--soft); stroke-dasharray: 4 4; }
nav { display: flex; flex-wrap: wrap; gap: .4rem; }
nav a { padding: .1rem .6rem; border: 1px solid var(--line); border-radius: 1rem;
  text-decoration: none; font-size: .9rem; }
section { margin: 1rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
.chips { display: flex; flex-wrap: wrap; gap: .35rem .9rem; margin: .5rem 0; padding: 0;
  list-style: none; font-size: .9rem; }
code, .text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  "Noto Sans Mono CJK KR", monospace; font-size: .86rem; }
code { padding: .05rem .3rem; border-radius: .25rem; background: rgb(var(--glow) / .22);
  white-space: pre-wrap; overflow-wrap: anywhere; }
.examples { margin: .5rem 0 0; padding: 0; list-style: none; }
.examples li { display: grid; grid-template-columns: 3.6rem 1fr; gap: .6rem; padding: .45rem 0;
  border-top: 1px solid var(--line); }
.examples .value { color: var(--soft); font-size: .85rem; text-align: right;
  font-variant-numeric: tabular-nums; line-height: 1.6; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; }
mark { color: inherit; background: rgb(var(--glow) / var(--a)); border-radius: .15rem; }
mark.peak { font-weight: 700; box-shadow: 0 2px 0 var(--ink); }
i { font-style: normal; color: var(--soft); }
mark i { color: inherit; }
footer { margin-top: 3rem; }
@media (max-width: 36rem) { body { padding: 1rem .75rem 3rem; } section { padding: .75rem; }
  .examples li { grid-template-columns: 1fr; gap: 0; } .examples .value { text-align: left; } }
"""
