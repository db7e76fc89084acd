// The prompt as text, a span for every token, in the look that a layer gives it. Spans stay; a slider's move changes
// only the classes that differ.

export class Shaded {
  constructor(place, onPoint) {
    this.place = place;
    this.spans = [];
    place.addEventListener('pointerover', event => {
      const token = event.target.token;
      if (token !== undefined) onPoint(token);
    });
  }

  show(kept) {
    const same = this.kept?.pieces.length === kept.pieces.length &&
      this.kept.pieces.every((piece, token) => piece === kept.pieces[token]);
    this.kept = kept;
    if (!same) this.fill(kept);  // another method's view of the same text stays where it was scrolled to
  }

  fill(kept) {
    this.spans = kept.pieces.map((piece, token) => {
      const span = document.createElement('span');
      span.textContent = piece;
      span.token = token;
      return span;
    });
    // In blocks, so that the browser lays out and paints only those in sight.
    const blocks = [[]];
    kept.pieces.forEach((piece, token) => {
      if (blocks.at(-1).push(this.spans[token]) > 60 && piece.endsWith('\n')) blocks.push([]);
    });
    this.place.replaceChildren(...blocks.map(spans => {
      const block = document.createElement('div');
      block.append(...spans);
      return block;
    }));
    this.place.scrollTop = 0;
  }

  shade(layer) {
    this.spans.forEach((span, token) => {
      const look = this.kept.look(layer, token);
      if (span.className !== look) span.className = look;
    });
  }

  /// Brings a token to the middle of the text's own place; the page around it stays. Once more when the blocks on the
  /// way, whose heights were guesses, have been laid out.
  scrollTo(token) {
    const centre = () => {
      const span = this.spans[token].getBoundingClientRect(), place = this.place.getBoundingClientRect();
      this.place.scrollTop += (span.top + span.bottom - place.top - place.bottom) / 2;
    };
    centre();
    requestAnimationFrame(centre);
  }
}
