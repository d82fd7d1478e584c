"""The page's script. It is put into the page unchanged: the page's policy admits it by its SHA-256."""

from pipeline.inspection_page.space import SPACE

PLAYER = """
  class Card {
    constructor(element) {
      const data = JSON.parse(element.querySelector('script.flow').textContent);
      Object.assign(this, data);
      this.moved = new Int16Array(bytes(data.moved).buffer);
      this.own = data.own && new Int16Array(bytes(data.own).buffer);
      this.state = bytes(data.state);
      this.points = data.start.length / 2;
      this.article = element.closest('.card');
      this.stage = element.querySelector('.stage');
      this.image = this.stage.querySelector('img');
      this.reference = this.image.src;
      this.frames = data.video.map(frame => 'data:image/jpeg;base64,' + frame);
      this.width = Number(this.stage.dataset.width);
      this.height = Number(this.stage.dataset.height);
      this.canvas = element.querySelector('canvas');
      this.slider = element.querySelector('input');
      this.button = element.querySelector('.play');
      this.label = element.querySelector('output');
      this.marks = this.times ? [] : element.closest('.card').querySelectorAll('.now');
      this.views = element.querySelectorAll('.views button');
      const inSpace = element.querySelector('.space');
      this.space = inSpace && new Space(this, inSpace);
      this.playing = false;
      this.view = 'image';
      for (const button of this.views) button.addEventListener('click', () => this.show(button.dataset.view));
      this.slider.addEventListener('input', () => { this.stop(); this.draw(Number(this.slider.value)); });
      /* The raw and the retargeted flow of one sample play together. */
      this.button.addEventListener('click', () => {
        const start = !this.playing;
        for (const card of cards.filter(other => other.article === this.article)) if (!start) card.stop(); else { card.now = this.now; card.play(); }
      });
      new ResizeObserver(() => this.draw(this.now)).observe(this.stage);
      this.now = this.steps;
      if (this.frames.length) this.show('video'); else this.draw(this.steps);
    }

    /* 'image': over the reference image. 'video': over the frame of each step. 'space': in space. */
    show(view) {
      this.view = view;
      this.stage.classList.toggle('in-space', view === 'space');
      this.stage.classList.toggle('in-video', view === 'video');
      for (const button of this.views) button.setAttribute('aria-pressed', button.dataset.view === view);
      if (view === 'image') this.image.src = this.reference;
      if (this.space) { if (view === 'space') this.space.open(); else this.space.close(); }
      this.draw(this.now);
    }

    /* Position and depth change of a moving point at a whole step: in the reference image, or in the step's own for the video. */
    at(point, step) {
      const i = point * (this.steps + 1) + step, [px, z] = shared.quantum;
      const [moved, n] = this.own && this.view === 'video' ? [this.own, 2] : [this.moved, 3];
      return [this.start[2 * point] + px * moved[n * i], this.start[2 * point + 1] + px * moved[n * i + 1], z * this.moved[3 * i + 2]];
    }

    known(point, step) { return this.state[point * (this.steps + 1) + step]; }

    colour(change) {
      const place = Math.round(half + half * Math.max(-1, Math.min(1, change / this.limit)));
      return shared.colours[place];
    }

    draw(now) {
      this.now = now;
      const step = Math.round(now);
      if (document.activeElement !== this.slider || this.playing) this.slider.value = step;
      const time = this.times ? this.times[step] : step;
      const seconds = this.fps > 0 ? ', ' + (time / this.fps).toFixed(2) + ' s' : '';
      this.label.textContent = 'step ' + step + ' of ' + this.steps + seconds;
      for (const mark of this.marks) { mark.setAttribute('x1', 100 * now / this.steps); mark.setAttribute('x2', 100 * now / this.steps); }
      if (this.view === 'space') { this.space.draw(now); return; }
      if (this.view === 'video' && this.image.src !== this.frames[step]) this.image.src = this.frames[step];
      this.paint(now);
    }

    paint(now) {
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
      for (const [colour, side] of [['rgba(16,20,26,0.7)', 3], ['rgba(255,255,255,0.9)', 1.8]]) {
        c.fillStyle = colour;
        for (let i = 0; i < this.still.length; i += 2) c.fillRect(this.still[i] * sx - side / 2, this.still[i + 1] * sy - side / 2, side, side);
      }
      c.lineCap = 'round';
      for (const casing of [true, false]) {
        for (let p = 0; p < this.points; p++) this.trail(c, p, now, sx, sy, casing);
      }
      for (let p = 0; p < this.points; p++) this.head(c, p, now, sx, sy);
    }

    trail(c, p, now, sx, sy, casing) {
      /* Over a playing video the whole way would hide what it shows, and with a moving camera it lies in other frames. */
      const tail = this.view !== 'video' ? this.steps : this.own ? 3 : this.playing ? 8 : this.steps;
      const first = Math.max(1, Math.ceil(now) - tail);
      let before = this.at(p, first - 1);
      for (let s = first; s <= this.steps && s - 1 < now; s++) {
        let after = this.at(p, s);
        const whole = after, part = Math.min(1, now - (s - 1));
        if (part < 1) after = after.map((v, i) => before[i] + part * (v - before[i]));
        const a = this.known(p, s - 1), b = this.known(p, s);
        if (a && b && (after[0] !== before[0] || after[1] !== before[1])) {
          const seen = a === 2 && b === 2, age = (now - s) / this.steps;
          c.globalAlpha = (seen ? 1 : 0.35) * (this.playing ? Math.max(0.12, 1 - 1.6 * age) : 1);
          c.lineWidth = (seen ? 1.7 : 1.2) + (casing ? 1.4 : 0);
          c.strokeStyle = casing ? 'rgba(16,20,26,0.8)' : this.colour(after[2]);
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
        now = Math.min(now, this.steps);
        /* Between two frames of a video nothing is seen, and space is drawn anew at whole steps only. */
        this.draw(this.view === 'image' ? now : Math.floor(now));
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

  /* Cards are made when they can first be seen: those in folded sections cost nothing until they are opened. */
  const cards = [], made = new Set();
  const wake = () => {
    for (const element of document.querySelectorAll('.look')) {
      if (made.has(element) || element.closest('details:not([open])')) continue;
      made.add(element);
      cards.push(new Card(element));
    }
    for (const card of cards) if (card.stage.closest('details:not([open])')) card.stop();
  };

  /* A link of the table of contents opens the section that it leads to. */
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.localName === 'details') { target.open = true; target.scrollIntoView(); }
  };

  if (matchMedia('(min-width: 881px)').matches) for (const section of document.querySelectorAll('details.wide')) section.open = true;
  document.addEventListener('toggle', wake, true);
  addEventListener('hashchange', unfold);
  wake();
  unfold();
"""

SCRIPT = f"""
(() => {{
  'use strict';
  const shared = JSON.parse(document.getElementById('shared').textContent);
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const half = (shared.colours.length - 1) / 2;
{SPACE}
{PLAYER}
}})();
"""
