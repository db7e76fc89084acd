"""Measures fastkv beside other engines: same file, same token ids, same threads, in turns. See scripts/compare-peers."""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time

import install
import report

HERE = os.path.dirname(os.path.abspath(__file__))


class Engine:
    """A program that measures: `command` takes the lengths and prints a line of JSON for each."""

    def __init__(self, name, settings, command):
        self.name, self.settings, self.command = name, settings, command

    def measure(self, lengths, environment, limit):
        """Rows of one run. Raises Missing with a line that says why not."""
        try:
            done = subprocess.run(self.command(lengths), capture_output=True, text=True, env=environment,
                                  stdin=subprocess.DEVNULL, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise install.Missing(f"took more than {limit} s") from error
        if done.returncode != 0:
            words = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise install.Missing(f"ended with {done.returncode}: {words[:200]}")
        return [self.row(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]

    def row(self, measured):
        return {"engine": self.name, **measured}


class Fastkv(Engine):
    """fastkv bench, whose rows say more; each method is an engine of its own in the result."""

    def row(self, measured):
        params = " ".join(f"{name}={value}" for name, value in measured["params"].items())
        keys = ("n_prompt", "prefill_seconds", "decode_seconds", "peak_rss_bytes", "kv_cache_bytes")
        return {"engine": f"{self.name} {measured['name']}", "params": params, **{key: measured[key] for key in keys}}


def llama_engine(name, installer, folder, options, n_ubatch, repack, settings):
    driver = installer(folder)
    head = [driver, options.model, options.tokens, str(options.threads), str(options.n_gen), str(n_ubatch), str(repack)]
    return Engine(name, settings, lambda lengths: head + [str(length) for length in lengths])


def openvino_engine(folder, options):
    head = [install.openvino(folder), os.path.join(HERE, "openvino_driver.py"), options.model, options.tokens,
            str(options.threads), str(options.n_gen)]
    return Engine("OpenVINO GenAI", "paged attention, bf16 cache and products (without AMX float16 and int8), "
                  "prompt in one batch, no prefix cache",
                  lambda lengths: head + [str(length) for length in lengths])


def fastkv_engine(name, options, *flags):
    def command(lengths):
        return [options.fastkv, "bench", "-m", options.model, "--tokens", options.tokens, "-t", str(options.threads),
                "-p", ",".join(map(str, lengths)), "-n", str(options.n_gen), "-r", "1", "-o", "jsonl", "--no-tuned",
                "--methods", options.methods, *flags]
    return Fastkv(name, " ".join(["fastkv bench --methods", options.methods, *flags]), command)


def find_engines(options):
    """Those that can be had here. Settings are the best of those tried on SmolLM2-135M, 8,000 tokens, 2 threads of a
    Sapphire Rapids with AMX: llama.cpp with its AMX layout (which "repack" is; without it 1,000 tokens take 3.2 s, not
    0.9) and micro-batches of 512 (2048: 2 to 10 % slower); ik_llama.cpp with micro-batches of 512 (2048: 20 % slower)
    and without repacking at run time (with it: the same within 1 %, more memory). fastkv-int8 is fastkv with 8-bit products
    and with weights that it keeps expanded, as llama.cpp keeps its own layout of them."""
    makers = {
        "llama.cpp": lambda: llama_engine("llama.cpp", install.llama_cpp, options.folder, options, 512, 1,
                                          "flash attention, weights laid out for AMX where there is any, -ub 512"),
        "ik_llama.cpp": lambda: llama_engine("ik_llama.cpp", install.ik_llama_cpp, options.folder, options, 512, 0,
                                             "flash attention, fused, -ub 512"),
        "openvino": lambda: openvino_engine(options.folder, options),
        "fastkv": lambda: fastkv_engine("fastkv", options),
        "fastkv-int8": lambda: fastkv_engine("fastkv int8", options, "--compute", "int8", "--expand", "always"),
    }
    engines, missing = [], {}
    for name in options.engines.split(","):
        if name not in makers:
            sys.exit(f"error: --engines {name} is unknown; there are: {', '.join(makers)}")
        try:
            engines.append(makers[name]())
        except install.Missing as error:
            missing[name] = str(error)
            print(f"{name}: left out: {error}", file=sys.stderr)
    return engines, missing


def write_tokens(path, count, n_vocab):
    """The same ids for everybody, in every run."""
    draw = random.Random(1)
    with open(path + ".part", "w") as file:
        json.dump([draw.randrange(n_vocab) for _ in range(count)], file)
    os.replace(path + ".part", path)


def clean_environment():
    """Nothing that would bind or park one engine's threads and not another's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}


class Samples:
    """One line of JSON for every run of an engine, written at once: an interrupted comparison goes on where it was."""

    def __init__(self, path, settings):
        self.path, self.runs = path, []
        if os.path.exists(path):
            with open(path) as file:
                lines = [json.loads(line) for line in file if line.endswith("\n")]
            if lines and lines[0] != settings:
                sys.exit(f"error: {path} was measured with other settings: name another folder with -o")
            self.runs = lines[1:]
        else:
            self.append(settings)

    def append(self, line):
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def has(self, name, round_):
        return any(run["name"] == name and run["round"] == round_ for run in self.runs)

    def add(self, name, round_, rows):
        run = {"name": name, "round": round_, "rows": rows, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.runs.append(run)
        self.append(run)


def measure(engines, options, samples, missing):
    """Round by round; who begins changes from round to round. Why an engine failed goes to `missing`."""
    failures = {}
    for round_ in range(options.rounds):
        first = round_ % max(1, len(engines))
        for engine in engines[first:] + engines[:first]:
            if samples.has(engine.name, round_) or failures.get(engine.name, 0) >= 3:
                continue
            print(f"round {round_ + 1} of {options.rounds}: {engine.name}", file=sys.stderr, flush=True)
            for _ in range(2):  # one failure may be chance
                try:
                    samples.add(engine.name, round_, engine.measure(options.lengths, clean_environment(), options.limit))
                    break
                except install.Missing as error:
                    failures[engine.name] = failures.get(engine.name, 0) + 1
                    missing[engine.name] = str(error)
                    print(f"{engine.name}: {error}", file=sys.stderr)


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next((line.split(": ", 1)[1].strip() for line in file if line.startswith("model name")),
                    platform.processor())


def parse():
    parser = argparse.ArgumentParser(prog="scripts/compare-peers", description=__doc__)
    parser.add_argument("--fastkv", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--folder", required=True, help=argparse.SUPPRESS)
    parser.add_argument("-m", "--model", required=True, help="GGUF file")
    parser.add_argument("-p", "--lengths", default="1000,8000", help="tokens of the prompts (default 1000,8000)")
    parser.add_argument("-n", "--n-gen", type=int, default=32, help="tokens decoded after each (default 32)")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count(), help="default: one per core")
    parser.add_argument("-r", "--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--engines", default="llama.cpp,ik_llama.cpp,openvino,fastkv,fastkv-int8",
                        help="default llama.cpp,ik_llama.cpp,openvino,fastkv,fastkv-int8")
    parser.add_argument("--methods", default="fullkv,fastkv", help="of fastkv, as fastkv bench has them")
    parser.add_argument("--limit", type=int, default=3600, help="seconds that one run of an engine may take")
    parser.add_argument("--install-only", action="store_true", help="measure nothing")
    parser.add_argument("-o", "--output", default="peers", help="folder for the results (default peers)")
    options = parser.parse_args()
    options.lengths = [int(length) for length in options.lengths.split(",")]
    return options


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    signal.signal(signal.SIGTERM, interrupt)  # ends the engine that runs, and what was measured is written
    options = parse()
    os.makedirs(options.output, exist_ok=True)
    options.tokens = os.path.join(options.output, "tokens.json")
    engines, missing = find_engines(options)
    if options.install_only:
        return
    facts = {"model": os.path.basename(options.model), "model_bytes": os.path.getsize(options.model),
             "cpu": cpu_name(), "threads": options.threads, "n_gen": options.n_gen, "lengths": options.lengths, "methods": options.methods}
    samples = Samples(os.path.join(options.output, "samples.jsonl"), facts)
    # Ids that every vocabulary has: engines differ in what they make of others.
    write_tokens(options.tokens, max(options.lengths) + options.n_gen, 32000)
    try:
        measure(engines, options, samples, missing)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    settings = {engine.name: engine.settings for engine in engines}
    report.write(options.output, facts, settings, samples.runs, missing)
    try:
        plot = [install.environment(options.folder, "plot"), os.path.join(HERE, "plot.py"), options.output]
        subprocess.run(plot, check=True, stdin=subprocess.DEVNULL)
    except (install.Missing, subprocess.CalledProcessError) as error:
        print(f"no plot: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
