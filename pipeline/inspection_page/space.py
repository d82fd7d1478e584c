"""Script of the page's 3D view: points and their paths in the reference camera, drawn by plotly when the view is first
opened.
"""

SPACE = """
  let library = null;
  const plotting = () => library ??= (async () => {
    const packed = new Blob([bytes(document.getElementById('library').textContent)]);
    const script = document.createElement('script');
    script.textContent = await new Response(packed.stream().pipeThrough(new DecompressionStream('gzip'))).text();
    document.head.append(script);
    return window.Plotly;
  })();

  /* Plotly's third axis points up: right, forward, up are x, z, -y of the camera. */
  const shown = points => ({ x: points.map(p => p && p[0]), y: points.map(p => p && p[2]), z: points.map(p => p && -p[1]) });

  class Space {
    constructor(card, element) {
      Object.assign(this, { card, element, ready: false });
      const depths = [...card.stillDepth, ...card.startDepth].sort((a, b) => a - b);
      this.far = 2 * depths[depths.length >> 1]; /* the background beyond would make all else small */
    }

    /* A position in the image and its depth, in space. */
    lift(u, v, z) {
      const [fx, fy, cx, cy] = this.card.camera;
      return [(u - cx) / fx * z, (v - cy) / fy * z, z];
    }

    place(point, step) {
      const [u, v, change] = this.card.at(point, step);
      return this.lift(u, v, this.card.startDepth[point] + change);
    }

    /* The reference image's colours under image positions. */
    colours(places) {
      const { image, width, height } = this.card, canvas = document.createElement('canvas');
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const c = canvas.getContext('2d', { willReadFrequently: true });
      c.drawImage(image, 0, 0);
      const data = c.getImageData(0, 0, canvas.width, canvas.height).data;
      return places.map(([u, v]) => {
        const x = Math.min(canvas.width - 1, Math.floor(u / width * canvas.width)), y = Math.min(canvas.height - 1, Math.floor(v / height * canvas.height));
        const i = 4 * (y * canvas.width + x);
        return `rgb(${data[i]},${data[i + 1]},${data[i + 2]})`;
      });
    }

    still() {
      const card = this.card, places = [];
      card.stillDepth.forEach((z, i) => { if (z <= this.far) places.push([card.still[2 * i], card.still[2 * i + 1], z]); });
      return {
        type: 'scatter3d', mode: 'markers', hoverinfo: 'skip', ...shown(places.map(p => this.lift(...p))),
        marker: { size: 4.5, color: this.colours(places), line: { width: 0 } },
      };
    }

    paths() {
      const card = this.card, places = [], changes = [];
      for (let p = 0; p < card.points; p++) {
        if (card.startDepth[p] > this.far) continue;
        for (let s = 0; s <= card.steps; s++) {
          places.push(card.known(p, s) ? this.place(p, s) : null);
          changes.push(card.known(p, s) ? card.at(p, s)[2] : 0);
        }
        places.push(null);
        changes.push(0);
      }
      const scale = shared.colours.map((colour, i) => [i / (shared.colours.length - 1), colour]);
      return {
        type: 'scatter3d', mode: 'lines', hoverinfo: 'skip', ...shown(places), connectgaps: false,
        line: { width: 4, color: changes, colorscale: scale, cmin: -card.limit, cmax: card.limit },
      };
    }

    heads(now) {
      const card = this.card, step = Math.round(now), places = [], colours = [];
      for (let p = 0; p < card.points; p++) {
        places.push(card.known(p, step) && card.startDepth[p] <= this.far ? this.place(p, step) : null);
        colours.push(card.colour(card.at(p, step)[2]));
      }
      return { ...shown(places), colours };
    }

    frustum() {
      const { width, height, startDepth, stillDepth } = this.card;
      const nearest = Math.min(...startDepth, ...stillDepth), z = nearest / 4;
      const [a, b, c, d] = [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => this.lift(u, v, z));
      const eye = [0, 0, 0];
      return {
        type: 'scatter3d', mode: 'lines', hoverinfo: 'skip', ...shown([a, b, c, d, a, eye, b, null, c, eye, d]),
        line: { width: 2, color: this.ink('--faint') },
      };
    }

    ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

    layout() {
      const axis = title => ({
        title: { text: title, font: { size: 11 } }, showbackground: false, gridcolor: this.ink('--line'), zeroline: false,
        showspikes: false, color: this.ink('--faint'), tickfont: { size: 10 }, nticks: 6,
      });
      const unit = this.card.unit === 'm' ? ' (m)' : '';
      return {
        margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false, paper_bgcolor: 'rgba(0,0,0,0)', uirevision: 'kept',
        scene: {
          xaxis: axis('right' + unit), yaxis: axis('forward' + unit), zaxis: axis('up' + unit), aspectmode: 'data',
          dragmode: 'orbit', camera: { eye: { x: 0.42, y: -1.15, z: 0.55 }, up: { x: 0, y: 0, z: 1 } }, uirevision: 'kept',
        },
      };
    }

    async open() {
      const plotly = await plotting();
      if (this.card.view !== 'space') return;
      const heads = this.heads(this.card.now);
      const points = {
        type: 'scatter3d', mode: 'markers', x: heads.x, y: heads.y, z: heads.z,
        marker: { size: 4, color: heads.colours, line: { width: 1, color: '#10141a' } },
        hovertemplate: 'right %{x:.3f}<br>forward %{y:.3f}<br>up %{z:.3f}<extra></extra>',
      };
      const options = { displayModeBar: false, responsive: true, scrollZoom: true };
      await plotly.newPlot(this.element, [this.frustum(), this.still(), this.paths(), points], this.layout(), options);
      this.step = Math.round(this.card.now);
      this.ready = true;
    }

    draw(now) {
      const step = Math.round(now);
      if (!this.ready || step === this.step) return;
      this.step = step;
      const heads = this.heads(now);
      const points = { x: [heads.x], y: [heads.y], z: [heads.z], 'marker.color': [heads.colours] };
      window.Plotly.update(this.element, points, { 'scene.camera': this.camera() }, [3]);
    }

    /* Where it is looked from now. Plotly learns of a drag only when it ends, so that drawing anew would undo it. */
    camera() {
      const { scene } = this.element._fullLayout;
      return scene._scene ? scene._scene.getCamera() : scene.camera;
    }

    close() {
      if (this.ready) window.Plotly.purge(this.element);
      this.ready = false;
    }
  }
"""
