"""Draws FOLDER/peers.json as FOLDER/peers.svg and .png: reading and decoding, a bar for each engine and length.

usage: plot.py FOLDER
"""

import json
import os
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {"llama.cpp": "#b8b8b8", "ik_llama.cpp": "#8c8c8c", "OpenVINO GenAI": "#5f7fa8"}
OWN_COLOURS = ["#e8a33d", "#c8502b", "#7a9a3a", "#8a5aa0", "#3a9a94", "#a04a6a", "#5a6a2a"]


def bars(axes, rows, engines, lengths, key, title):
    own = [engine for engine in engines if engine not in COLOURS]
    width = 0.8 / len(engines)
    for index, engine in enumerate(engines):
        values = {row["n_prompt"]: row[key] or 0 for row in rows if row["engine"] == engine}
        places = [i + (index - (len(engines) - 1) / 2) * width for i in range(len(lengths))]
        colour = COLOURS.get(engine) or OWN_COLOURS[own.index(engine) % len(OWN_COLOURS)]
        drawn = axes.bar(places, [values.get(n, 0) for n in lengths], width * 0.92, color=colour, label=engine)
        axes.bar_label(drawn, fmt="%.0f", fontsize=7, padding=1)
    axes.set_xticks(range(len(lengths)), [f"{n:,} tokens" for n in lengths])
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def main(folder):
    with open(os.path.join(folder, "peers.json")) as file:
        data = json.load(file)
    engines = list(dict.fromkeys(row["engine"] for row in data["rows"]))
    if not engines:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    bars(left, data["rows"], engines, data["lengths"], "prefill_tps", "reading a prompt, tokens/s")
    bars(right, data["rows"], engines, data["lengths"], "decode_tps", "decoding after it, tokens/s")
    left.legend(fontsize=8, frameon=False)
    figure.suptitle(f"{data['model']}, {data['threads']} threads of {data['cpu']}", fontsize=10)
    figure.tight_layout()
    for kind in ("svg", "png"):
        part = os.path.join(folder, "peers.part." + kind)
        figure.savefig(part, dpi=150)
        os.replace(part, os.path.join(folder, "peers." + kind))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
