// What a report says of every token: which heads of which layer kept it, and how far up it came.

const each = (ranges, visit) => {
  for (const [first, last] of ranges) for (let token = first; token <= last; ++token) visit(token);
};

/// The tokens that a layer read: all, or those that a layer below passed on. Where all layers read the same few
/// (GemFilter's second reading) the layer that chose them may be above.
function rowsOf(layers, index, n) {
  if (layers[index].rows === n) return null;
  const below = layers.slice(0, index).reverse(), above = layers.slice(index);
  const source = [...below, ...above].find(layer => count(layer.propagated) === layers[index].rows);
  return source?.propagated ?? null;
}

const count = ranges => ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);

export class Kept {
  /// `report` is a response's "fastkv" with "layers" and "pieces".
  constructor(report) {
    const n = report.pieces.length;
    this.pieces = report.pieces;
    this.nLayer = report.layers.length;
    this.layers = report.layers.map((layer, index) => {
      const heads = new Uint8Array(n);  // [n] how many of the lists of `kept` have the token
      const read = new Uint8Array(n);   // [n] whether the layer read it
      const goesOn = new Uint8Array(n);  // [n] whether the layer, which dropped others, passed it on
      for (const list of layer.kept) each(list, token => { ++heads[token]; });
      const rows = rowsOf(report.layers, index, n);
      if (rows) each(rows, token => { read[token] = 1; });
      else read.fill(1);
      each(layer.propagated, token => { goesOn[token] = 1; });
      return { nLists: layer.kept.length, nHeads: layer.n_head_cached, heads, read, goesOn,
               rows: layer.rows, cached: layer.cached, nPropagated: count(layer.propagated) };
    });
    this.mean = new Float32Array(n);  // [n] share of all heads of all layers
    for (let token = 0; token < n; ++token) {
      for (const layer of this.layers) this.mean[token] += layer.heads[token] / layer.nLists / this.nLayer;
    }
    this.drops = this.layers.some(layer => layer.nPropagated > 0);
  }

  /// The share of a layer's heads that kept a token; layer -1: of all layers'.
  share(layer, token) {
    return layer < 0 ? this.mean[token] : this.layers[layer].heads[token] / this.layers[layer].nLists;
  }

  /// A token's classes in the style sheet.
  look(layer, token) {
    const share = this.share(layer, token);
    // Of all layers hardly any token has none: those that stand out are what one looks for.
    const level = layer < 0 ? Math.round(Math.sqrt(share) * 4) : Math.ceil(share * 4 - 1e-6);
    if (layer < 0) return (this.drops && this.layers.at(-1).read[token] ? 'on ' : '') + 'k' + level;
    const { read, goesOn } = this.layers[layer];
    if (!read[token]) return 'gone';
    return (goesOn[token] ? 'on ' : '') + 'k' + level;
  }
}
