"""Style and script of the page. Both stand in it as they are here: its policy admits them by their SHA-256."""

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
.verdict { border-radius: 8px; padding: 11px 16px; margin-bottom: 20px; }
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
.numbers th:first-child, .numbers td:first-child { text-align: left; padding-left: 0; }
.numbers { table-layout: fixed; }
.numbers th:first-child { width: 25%; }
table.texts { margin-top: 0; }
.texts td { padding: 1px 0; vertical-align: top; color: var(--faint); white-space: nowrap; padding-right: 14px; width: 1%; }
.texts td.words { color: var(--ink); white-space: normal; width: auto; overflow-wrap: anywhere; }
ul.texts { margin: 4px 0 0; padding-left: 18px; color: var(--faint); font-size: 13px; }
details { margin-top: 16px; }
details summary { cursor: pointer; color: var(--accent); font-size: 13px; }
details[open] summary { margin-bottom: 10px; }
pre { font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; overflow: auto; max-height: 420px; margin: 0; }
.toolbar { margin: 38px 0 14px; display: grid; grid-template-columns: 1fr auto; align-items: center; gap: 2px 20px; }
.toolbar h2 { margin: 0; font-size: 19px; }
.toolbar p { grid-column: 1 / -1; margin: 0; color: var(--faint); font-size: 13px; }
button { font: inherit; font-size: 13px; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 4px 13px; cursor: pointer; }
button:hover { border-color: var(--faint); }
button:focus-visible, summary:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.cards { display: grid; gap: 20px; }
.card { display: grid; grid-template-columns: minmax(0, 480px) minmax(0, 1fr); gap: 28px; align-items: start; }
@media (max-width: 880px) { .card { grid-template-columns: minmax(0, 1fr); } .card .look { position: static; } main { padding: 24px 14px 60px; } }
.look { position: sticky; top: 16px; }
.stage { position: relative; border-radius: 6px; overflow: hidden; background: #333; line-height: 0; }
.stage img { width: 100%; height: auto; filter: grayscale(0.5) brightness(0.78); }
.stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
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
@media print { .toolbar button, .controls { display: none; } .card, .panel { break-inside: avoid; } }
"""

SCRIPT = """
(() => {
  'use strict';
  const shared = JSON.parse(document.getElementById('shared').textContent);
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const half = (shared.colours.length - 1) / 2;

  class Card {
    constructor(element) {
      const data = JSON.parse(element.querySelector('script.flow').textContent);
      Object.assign(this, data);
      this.moved = new Int16Array(bytes(data.moved).buffer);
      this.state = bytes(data.state);
      this.points = data.start.length / 2;
      this.stage = element.querySelector('.stage');
      this.width = Number(this.stage.dataset.width);
      this.height = Number(this.stage.dataset.height);
      this.canvas = element.querySelector('canvas');
      this.slider = element.querySelector('input');
      this.button = element.querySelector('.play');
      this.label = element.querySelector('output');
      this.marks = element.querySelectorAll('.now');
      this.playing = false;
      this.slider.addEventListener('input', () => { this.stop(); this.draw(Number(this.slider.value)); });
      this.button.addEventListener('click', () => this.playing ? this.stop() : this.play());
      new ResizeObserver(() => this.draw(this.now)).observe(this.stage);
      this.draw(this.steps);
    }

    /* Position and depth change of a moving point at a whole step. */
    at(point, step) {
      const i = 3 * (point * (this.steps + 1) + step), [px, z] = shared.quantum;
      return [this.start[2 * point] + px * this.moved[i], this.start[2 * point + 1] + px * this.moved[i + 1], z * this.moved[i + 2]];
    }

    known(point, step) { return this.state[point * (this.steps + 1) + step]; }

    colour(change) {
      const place = Math.round(half + half * Math.max(-1, Math.min(1, change / this.limit)));
      return shared.colours[place];
    }

    draw(now) {
      this.now = now;
      const ratio = window.devicePixelRatio || 1, wide = this.stage.clientWidth, high = this.stage.clientHeight;
      if (!wide || !high) return;
      if (this.canvas.width !== Math.round(wide * ratio) || this.canvas.height !== Math.round(high * ratio)) {
        this.canvas.width = Math.round(wide * ratio);
        this.canvas.height = Math.round(high * ratio);
      }
      const c = this.canvas.getContext('2d');
      c.setTransform(ratio, 0, 0, ratio, 0, 0);
      c.clearRect(0, 0, wide, high);
      const sx = wide / this.width, sy = high / this.height;
      c.fillStyle = 'rgba(255,255,255,0.5)';
      for (let i = 0; i < this.still.length; i += 2) c.fillRect(this.still[i] * sx - 0.75, this.still[i + 1] * sy - 0.75, 1.5, 1.5);
      c.lineCap = 'round';
      for (const casing of [true, false]) {
        for (let p = 0; p < this.points; p++) this.trail(c, p, now, sx, sy, casing);
      }
      for (let p = 0; p < this.points; p++) this.head(c, p, now, sx, sy);
      const step = Math.round(now);
      if (document.activeElement !== this.slider || this.playing) this.slider.value = step;
      const seconds = this.fps > 0 ? ', ' + (step / this.fps).toFixed(2) + ' s' : '';
      this.label.textContent = 'step ' + step + ' of ' + this.steps + seconds;
      for (const mark of this.marks) { mark.setAttribute('x1', 100 * now / this.steps); mark.setAttribute('x2', 100 * now / this.steps); }
    }

    trail(c, p, now, sx, sy, casing) {
      let before = this.at(p, 0);
      for (let s = 1; s <= this.steps && s - 1 < now; s++) {
        let after = this.at(p, s);
        const whole = after, part = Math.min(1, now - (s - 1));
        if (part < 1) after = after.map((v, i) => before[i] + part * (v - before[i]));
        const a = this.known(p, s - 1), b = this.known(p, s);
        if (a && b && (after[0] !== before[0] || after[1] !== before[1])) {
          const seen = a === 2 && b === 2, age = (now - s) / this.steps;
          c.globalAlpha = (seen ? 1 : 0.35) * (this.playing ? Math.max(0.12, 1 - 1.6 * age) : 1);
          c.lineWidth = (seen ? 1.7 : 1.2) + (casing ? 1.4 : 0);
          c.strokeStyle = casing ? 'rgba(16,20,26,0.6)' : this.colour(after[2]);
          c.setLineDash(seen ? [] : [1, 3]);
          c.beginPath();
          c.moveTo(before[0] * sx, before[1] * sy);
          c.lineTo(after[0] * sx, after[1] * sy);
          c.stroke();
        }
        before = whole;
      }
      c.globalAlpha = 1;
      c.setLineDash([]);
    }

    /* The point itself; where its position is not known any more it stays, hollow, at the last known one. */
    head(c, p, now, sx, sy) {
      const low = Math.floor(now), high = Math.min(this.steps, low + 1), part = now - low;
      let place = this.at(p, low), known = this.known(p, low);
      if (part && known && this.known(p, high)) place = this.at(p, high).map((v, i) => place[i] + part * (v - place[i]));
      if (!known) {
        let s = low;
        while (s > 0 && !this.known(p, s)) s--;
        place = this.at(p, s);
      }
      c.globalAlpha = known === 2 ? 1 : known ? 0.4 : 0.25;
      c.beginPath();
      c.arc(place[0] * sx, place[1] * sy, (this.moving[p] ? 3.1 : 1.5) * (known ? 1 : 0.7), 0, 2 * Math.PI);
      c.lineWidth = this.moving[p] ? 1 : 0.5;
      c.strokeStyle = known ? '#10141a' : '#ffffff';
      c.fillStyle = this.colour(place[2]);
      if (known) c.fill();
      c.stroke();
      c.globalAlpha = 1;
    }

    play() {
      this.playing = true;
      this.button.textContent = 'Pause';
      let begin = null, from = this.now >= this.steps ? 0 : this.now;
      const speed = Math.max(6, Math.min(this.fps || 10, 12));
      const frame = time => {
        if (!this.playing) return;
        if (begin === null) begin = time;
        let now = from + (time - begin) / 1000 * speed;
        if (now > this.steps + speed) { begin = time; from = 0; now = 0; }
        this.draw(Math.min(now, this.steps));
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    }

    stop() {
      this.playing = false;
      this.button.textContent = 'Play';
      this.draw(this.now);
    }
  }

  const cards = [...document.querySelectorAll('.card')].map(element => new Card(element));
  const all = document.getElementById('all');
  if (all) all.addEventListener('click', () => {
    const start = all.textContent === 'Play all';
    all.textContent = start ? 'Pause all' : 'Play all';
    for (const card of cards) { if (start) { card.now = 0; card.play(); } else card.stop(); }
  });
})();
"""
