// All layers at a glance: a row for each, the text from left to right, the darker the more heads kept what is there.

export class LayerMap {
  /// `frame` lies over the canvas and marks a layer.
  constructor(canvas, frame, onPick) {
    this.canvas = canvas;
    this.frame = frame;
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
    this.frame.hidden = layer < 0;
    this.frame.style.top = layer / this.kept.nLayer * 100 + '%';
    this.frame.style.height = 100 / this.kept.nLayer + '%';
  }

  draw() {
    if (!this.kept || !this.canvas.clientWidth) return;
    const { canvas, kept } = this, style = getComputedStyle(canvas);
    const width = canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    const pen = canvas.getContext('2d'), n = kept.pieces.length, row = height / kept.nLayer;
    const nColumns = Math.min(width, n);
    const colours = { read: style.getPropertyValue('--map-read'), kept: style.getPropertyValue('--map-kept') };
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
        const fill = (colour, alpha) => {
          pen.globalAlpha = alpha;
          pen.fillStyle = colour;
          pen.fillRect(left, top, right - left, tall);
        };
        if (read) fill(colours.read, read / (last - first));
        if (sum) fill(colours.kept, Math.min(1, 0.15 + Math.sqrt(sum / (last - first))));
      }
    });
  }
}
