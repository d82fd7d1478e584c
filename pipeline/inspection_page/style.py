"""The page's style. It is put into the page unchanged: the page's policy admits it by its SHA-256."""

STYLE = """
:root { color-scheme: light dark; --paper: #f6f6f4; --card: #fff; --ink: #1d2126; --faint: #667080; --line: #e2e3e0;
  --accent: #1565d8; --good: #14713d; --good-paper: #e9f4ed; --bad: #a3220f; --bad-paper: #fbecea; --unsure: #7a5b00; --unsure-paper: #faf3df; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1e2226; --ink: #e8e9ea; --faint: #98a1ad; --line: #31363c;
  --accent: #6db4f5; --good: #7fd3a1; --good-paper: #17301f; --bad: #ff9a87; --bad-paper: #3a1c17; --unsure: #e6c766; --unsure-paper: #322a12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 36px 28px 80px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 10px; }
h3 { font-size: 15px; line-height: 1.35; margin: 0; overflow-wrap: anywhere; }
h4, .panel h3 { font-size: 12px; font-weight: 600; color: var(--faint); margin: 16px 0 6px; }
.where { color: var(--faint); font-size: 12.5px; margin: 4px 0 0; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px 44px; margin: 26px 0 22px; }
.tiles b { display: block; font-size: 22px; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--faint); font-size: 12.5px; }
.verdict { border-radius: 8px; padding: 11px 16px; margin: 14px 0 20px; }
.verdict p { margin: 2px 0; }
.verdict ul { margin: 6px 0 4px; padding-left: 20px; overflow-wrap: anywhere; }
.good { background: var(--good-paper); color: var(--good); }
.bad { background: var(--bad-paper); color: var(--bad); }
.unsure { background: var(--unsure-paper); color: var(--unsure); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 20px; align-items: start; }
.panel, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px; min-width: 0; }
dl { display: grid; grid-template-columns: 138px minmax(0, 1fr); gap: 4px 14px; margin: 0; font-size: 13px; }
dt { color: var(--faint); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; margin-top: 14px; }
caption { text-align: left; color: var(--faint); font-size: 12px; font-weight: 600; padding-bottom: 3px; }
th { font-weight: 500; color: var(--faint); }
.numbers th, .numbers td { text-align: right; padding: 3px 0 3px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
.numbers th:first-child, .numbers td:first-child { text-align: left; padding-left: 0; white-space: normal; }
.numbers { table-layout: fixed; }
.numbers th:first-child { width: 25%; }
.checks .numbers th:first-child { width: 46%; }
table.texts { margin-top: 0; }
.texts td { padding: 1px 0; vertical-align: top; color: var(--faint); white-space: nowrap; padding-right: 14px; width: 1%; }
.texts td.words { color: var(--ink); white-space: normal; width: auto; overflow-wrap: anywhere; }
ul.texts { margin: 4px 0 0; padding-left: 18px; color: var(--faint); font-size: 13px; }
details { margin-top: 16px; }
details summary { cursor: pointer; color: var(--accent); font-size: 13px; }
details[open] summary { margin-bottom: 10px; }
pre { font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow: auto; max-height: 420px; margin: 0; }
header { margin-bottom: 18px; }
nav { margin-top: 26px; padding: 12px 0; border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
nav ul { display: flex; flex-wrap: wrap; gap: 6px 24px; list-style: none; margin: 0; padding: 0; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
details.section { margin-top: 22px; }
details.section > summary, details.sample > summary { color: var(--ink); list-style-position: outside; }
details.section > summary { margin-left: 18px; }
.section > summary h2 { display: inline; font-size: 19px; }
.section[open] > summary { margin-bottom: 14px; }
details.sample { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 8px 0 0; }
details.sample > summary { padding: 9px 14px 9px 6px; margin-left: 22px; }
details.sample > summary span { color: var(--faint); }
details.sample > .card { border-width: 1px 0 0; border-radius: 0 0 8px 8px; }
details.sample[open] > summary { margin-bottom: 0; }
button { font: inherit; font-size: 13px; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 4px 13px; cursor: pointer; }
button:hover { border-color: var(--faint); }
button:focus-visible, summary:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.cards { display: grid; gap: 20px; }
.card { display: grid; grid-template-columns: minmax(0, 480px) minmax(0, 1fr); gap: 28px; align-items: start; }
@media (max-width: 880px) { .card { grid-template-columns: minmax(0, 1fr); } .card .look { position: static; } main { padding: 24px 14px 60px; } }
.look { position: sticky; top: 16px; }
.with-both { grid-template-columns: minmax(0, 1fr); }
.both { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 20px; }
.both .look { position: static; }
.both h4 { margin-top: 0; }
.stage { position: relative; border-radius: 6px; overflow: hidden; background: #333; line-height: 0; }
.stage > img { width: 100%; height: auto; filter: grayscale(0.5) brightness(0.78); }
.stage > canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.controls { display: flex; align-items: center; gap: 12px; margin-top: 10px; }
.controls button { min-width: 68px; }
.controls input { flex: 1; min-width: 60px; accent-color: var(--accent); }
.controls output { font-size: 12.5px; color: var(--faint); font-variant-numeric: tabular-nums; min-width: 116px; text-align: right; white-space: nowrap; }
.legend { margin-top: 10px; }
.legend i { display: block; height: 8px; border-radius: 4px; border: 1px solid var(--line);
  background: linear-gradient(to right, #ff5a00, #ffab52 25%, #f7f5f0 50%, #6db4f5 75%, #1565d8); }
.legend div { display: flex; justify-content: space-between; font-size: 12px; color: var(--faint); margin-top: 2px; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 180px)); gap: 18px; margin-top: 14px; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 12px; font-weight: 600; color: var(--faint); margin-bottom: 5px; }
.small { display: block; width: 100%; height: auto; border-radius: 4px; }
.scale { display: flex; align-items: center; gap: 7px; font-size: 11.5px; color: var(--faint); margin-top: 5px; white-space: nowrap; }
.scale i { flex: 1; height: 6px; border-radius: 3px; }
.cividis i { background: linear-gradient(to right, #00224e, #35456c, #666970, #948e77, #c8b866, #fee838); }
.none { color: var(--faint); margin: 0; }
.actions { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 3px 22px; max-width: 560px; }
.actions div { display: grid; grid-template-columns: 56px 1fr 44px; gap: 8px; align-items: center; font-size: 12px; }
.actions span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.actions span:last-child { color: var(--faint); font-size: 11.5px; font-variant-numeric: tabular-nums; }
.actions svg { width: 100%; height: 20px; display: block; }
.actions polyline { fill: none; stroke: var(--accent); stroke-width: 1.4; vector-effect: non-scaling-stroke; }
.actions line { vector-effect: non-scaling-stroke; stroke-width: 1; }
.actions .zero { stroke: var(--line); }
.actions .now { stroke: var(--faint); }
.fact { color: var(--faint); font-size: 13px; margin: 14px 0 0; overflow-wrap: anywhere; }
.views { display: flex; margin-top: 10px; }
.views button { border-radius: 0; margin-left: -1px; flex: 1; color: var(--faint); }
.stack { display: grid; gap: 20px; min-width: 0; }
.small-card .views button { padding: 4px 6px; white-space: nowrap; }
.views button:first-child { border-radius: 6px 0 0 6px; margin-left: 0; }
.views button:last-child { border-radius: 0 6px 6px 0; }
.views button[aria-pressed='true'] { color: var(--accent); font-weight: 600; background: var(--paper); }
.stage .space { display: none; position: absolute; inset: 0; line-height: normal; }
.stage.in-space { background: var(--paper); }
.stage.in-space .space { display: block; }
.stage.in-space > img, .stage.in-space > canvas { visibility: hidden; }
.stage.in-video > img { filter: brightness(0.9); }
.small-cards { grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); }
.small-card { display: block; padding: 14px 16px 16px; }
.small-card .look { position: static; }
.small-card h3 { font-size: 13.5px; margin-top: 12px; }
.small-card .fact { margin-top: 4px; color: var(--ink); }
.small-card .controls { gap: 8px; flex-wrap: wrap; }
.small-card .controls output { min-width: 0; text-align: left; flex-basis: 100%; }
.histograms { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 14px 22px; margin-top: 12px; }
.histograms svg { display: block; width: 100%; height: auto; font-size: 9.5px; }
.histograms text { fill: var(--faint); }
.histograms .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.histograms .outside { fill: var(--paper); }
.lines { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 12.5px; margin: 12px 0 0; }
.lines .key { width: 22px; height: 8px; margin-right: 6px; }
.reasons td { padding: 3px 12px 3px 0; vertical-align: baseline; border-bottom: 1px solid var(--line); }
.reasons td:nth-child(1) { white-space: nowrap; width: 1%; }
.reasons td:nth-child(2) { text-align: right; white-space: nowrap; width: 1%; }
.reasons td:nth-child(3) { width: 150px; }
.reasons td:nth-child(4) { color: var(--faint); overflow-wrap: anywhere; }
.reasons { margin-top: 0; }
.reasons svg { width: 100%; height: 6px; display: block; }
.reasons rect { fill: var(--accent); opacity: 0.75; }
.rejected { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 16px 20px; margin-top: 18px; }
.rejected .small-card { padding: 0; border: 0; }
.rejected .ends { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.rejected figcaption, .rejected p { margin: 2px 0 0; }
.rejected figcaption { margin-top: 8px; }
.rejected figcaption { color: var(--ink); }
@media print { nav, .controls { display: none; } .card, .panel { break-inside: avoid; } }
"""
