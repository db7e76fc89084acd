// All layers at a glance: a row for each, the text from left to right, the darker the more heads kept what is there.

export class LayerMap {
  constructor(canvas, onPick) {
    this.canvas = canvas;
    this.layer = -1;
    const pick = event => {
      if (!this.kept || (event.type === 'pointermove' && !event.buttons)) return;
      const box = canvas.getBoundingClientRect();
      const share = (value, size) => Math.min(0.9999, Math.max(0, value / size));
      onPick(Math.floor(share(event.clientY - box.top, box.height) * this.kept.nLayer),
             Math.floor(share(event.clientX - box.left, box.width) * this.kept.pieces.length));
    };
    canvas.addEventListener('pointerdown', pick);
    canvas.addEventListener('pointermove', pick);
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
  }

  show(kept) {
    this.kept = kept;
    this.canvas.style.height = Math.min(200, Math.max(48, kept.nLayer * 5)) + 'px';
    this.canvas.setAttribute('aria-label', `What the ${kept.nLayer} layers kept of ${kept.pieces.length} tokens, ` +
      'from the first layer above to the last below, and from the beginning of the text to its end. ' +
      'The slider above goes through the layers.');
    this.draw();
  }

  mark(layer) {
    this.layer = layer;
    this.draw();
  }

  draw() {
    if (!this.kept || !this.canvas.clientWidth) return;
    const { canvas, kept } = this, style = getComputedStyle(canvas);
    const width = canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    const pen = canvas.getContext('2d'), n = kept.pieces.length, row = height / kept.nLayer;
    const nColumns = Math.min(width, n);
    kept.layers.forEach((layer, index) => {
      const top = Math.round(index * row), tall = Math.max(1, Math.round((index + 1) * row) - top - (row > 3 ? 1 : 0));
      for (let column = 0; column < nColumns; ++column) {
        const first = Math.floor(column * n / nColumns), last = Math.floor((column + 1) * n / nColumns);
        let sum = 0, read = 0;
        for (let token = first; token < last; ++token) {
          sum += kept.share(index, token);
          read += layer.read[token];
        }
        const left = Math.floor(column * width / nColumns), right = Math.floor((column + 1) * width / nColumns);
        const fill = (name, alpha) => {
          pen.globalAlpha = alpha;
          pen.fillStyle = style.getPropertyValue(name);
          pen.fillRect(left, top, right - left, tall);
        };
        if (read) fill('--map-read', read / (last - first));
        if (sum) fill('--map-kept', Math.min(1, 0.15 + Math.sqrt(sum / (last - first))));
      }
    });
    pen.globalAlpha = 1;
    if (this.layer < 0) return;
    pen.strokeStyle = style.getPropertyValue('--accent');
    pen.lineWidth = 2 * devicePixelRatio;
    pen.strokeRect(pen.lineWidth / 2, Math.max(pen.lineWidth / 2, this.layer * row - pen.lineWidth / 2),
                   width - pen.lineWidth, Math.min(row + pen.lineWidth / 2, height - this.layer * row));
  }
}
