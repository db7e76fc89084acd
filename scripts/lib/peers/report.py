"""The table and the summary of a comparison, from its samples."""

import json
import os
import statistics


def summarise(facts, runs):
    """[{engine, n_prompt, medians, ranges, samples}], in the order in which engines and lengths appear."""
    groups = {}
    for run in runs:
        for row in run["rows"]:
            groups.setdefault((row["n_prompt"], row["engine"]), []).append(row)
    rows = []
    for (n_prompt, engine), samples in sorted(groups.items(), key=lambda item: item[0][0]):
        prefill = [sample["prefill_seconds"] for sample in samples]
        decode = [facts["n_gen"] / sample["decode_seconds"] for sample in samples if sample["decode_seconds"]]
        peaks = [sample["peak_rss_bytes"] for sample in samples if sample["peak_rss_bytes"]]
        rows.append({
            "engine": engine, "params": samples[0].get("params", ""), "n_prompt": n_prompt, "runs": len(samples),
            "first_token_seconds": statistics.median(prefill),
            "prefill_tps": n_prompt / statistics.median(prefill),
            "decode_tps": statistics.median(decode) if decode else None,
            "peak_beyond_file_bytes": max(peaks) - facts["model_bytes"] if peaks else None,
            "first_token_seconds_samples": prefill, "decode_tps_samples": decode,
        })
    return rows


def span(samples, number):
    return f"{number % min(samples)} to {number % max(samples)}" if len(samples) > 1 else ""


def ratio(numerator, denominator):
    return f"{numerator / denominator:.2f}×" if numerator and denominator else ""


def measured_table(rows):
    lines = ["| prompt | engine | first token, s | of runs | prompt t/s | decode t/s | of runs | peak beyond the file |",
             "|---:|---|---:|---|---:|---:|---|---:|"]
    for row in rows:
        decode, peak = row["decode_tps"], row["peak_beyond_file_bytes"]
        lines.append(f"| {row['n_prompt']:,} | {row['engine']} | {row['first_token_seconds']:.3f} | "
                     f"{span(row['first_token_seconds_samples'], '%.3f')} | {row['prefill_tps']:,.0f} | "
                     f"{f'{decode:.1f}' if decode else ''} | {span(row['decode_tps_samples'], '%.1f')} | "
                     f"{f'{peak / 2**20:,.0f} MiB' if peak else ''} |")
    return lines


def ratio_table(rows):
    """How often faster fastkv is: first token / decoding / share of the peer's memory."""
    own = [row for row in rows if row["engine"].startswith("fastkv")]
    peers = list(dict.fromkeys(row["engine"] for row in rows if not row["engine"].startswith("fastkv")))
    by_key = {(row["engine"], row["n_prompt"]): row for row in rows}
    lines = ["| prompt | fastkv | " + " | ".join(f"vs {peer}" for peer in peers) + " |",
             "|---:|---|" + "---|" * len(peers)]
    for row in own:
        cells = []
        for peer in peers:
            other = by_key.get((peer, row["n_prompt"]))
            cells.append("" if other is None else " / ".join([
                ratio(other["first_token_seconds"], row["first_token_seconds"]),
                ratio(row["decode_tps"], other["decode_tps"]),
                ratio(row["peak_beyond_file_bytes"], other["peak_beyond_file_bytes"])]))
        lines.append(f"| {row['n_prompt']:,} | {row['engine']} | " + " | ".join(cells) + " |")
    return lines if own and peers else []


def write_whole(path, text):
    with open(path + ".part", "w") as file:
        file.write(text)
    os.replace(path + ".part", path)


def write(folder, facts, settings, runs, missing):
    rows = summarise(facts, runs)
    rounds = max((row["runs"] for row in rows), default=0)
    lines = [f"{facts['model']}, {facts['threads']} threads of {facts['cpu']}; medians of up to {rounds} runs in turns, "
             f"{facts['n_gen']} tokens decoded after each prompt.", "", *measured_table(rows), ""]
    ratios = ratio_table(rows)
    if ratios:
        lines += ["First token and decoding so many times as fast, and the peak of memory beyond the file in "
                  "proportion:", "", *ratios, ""]
    lines += [f"* {name}: {text}" for name, text in settings.items()]
    lines += [f"* {name} failed: {why}" for name, why in missing.items()]
    lines += [f"* {row['engine']}: {row['params']}" for row in rows
              if row["params"] and row["n_prompt"] == max(facts["lengths"])]
    write_whole(os.path.join(folder, "peers.md"), "\n".join(lines) + "\n")
    summary = {**facts, "settings": settings, "failed": missing, "rows": rows, "runs": runs}
    write_whole(os.path.join(folder, "peers.json"), json.dumps(summary, indent=1) + "\n")
    print("\n".join(lines))
