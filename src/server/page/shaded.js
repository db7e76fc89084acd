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
    this.kept = kept;
    this.spans = kept.pieces.map((piece, token) => {
      const span = document.createElement('span');
      span.textContent = piece;
      span.token = token;
      return span;
    });
    // Paragraphs of their own, so that the browser lays out and paints only those in sight.
    const paragraphs = [];
    let paragraph = null, length = 0;
    kept.pieces.forEach((piece, token) => {
      if (!paragraph) paragraphs.push(paragraph = document.createElement('div'));
      paragraph.append(this.spans[token]);
      if (++length > 60 && piece.endsWith('\n')) { paragraph = null; length = 0; }
    });
    this.place.replaceChildren(...paragraphs);
  }

  shade(layer) {
    this.spans.forEach((span, token) => {
      const look = this.kept.look(layer, token);
      if (span.className !== look) span.className = look;
    });
  }

  scrollTo(token) {
    this.spans[token]?.scrollIntoView({ block: 'center' });
  }
}
