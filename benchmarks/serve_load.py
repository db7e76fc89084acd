"""A load on fastkv serve, to see that it holds: clients that ask long and short things, as a stream or as a whole, and
some that leave before they are answered.

    python3 benchmarks/serve_load.py build/release/bin/fastkv model.gguf --minutes 10 --clients 8
    python3 benchmarks/serve_load.py build/release/bin/fastkv model.gguf --together 1,2,4,8
    python3 benchmarks/serve_load.py build/release/bin/fastkv model.gguf --beside 7000

The first prints errors, latencies, tokens per second, and the server's memory over time; the exit code is 1 where a
request was not answered as it should be. The second prints the tokens per second of answers that grow at the same time,
the third what an answer and a prompt of so many words that is read meanwhile cost each other.
Python's standard library is all that it needs.
"""
import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

WORDS = ("the river bridge was built by a company of masons who came from the hills in spring and left before winter "
         "with their carts mules letters debts songs and two bells that nobody in town had ever heard ring").split()


def text_of(n_words, randomness):
    return " ".join(randomness.choice(WORDS) for _ in range(n_words)) + ". What was built?"


class Server:
    """fastkv serve on a free port, for as long as the `with` block lasts."""

    def __init__(self, fastkv, model, extra):
        self.process = subprocess.Popen([fastkv, "serve", "-m", model, "--port", "0", *extra], stderr=subprocess.PIPE,
                                        text=True)
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            sys.exit(f"the server does not start: {line}")
        self.port = int(found.group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)

    def send(self, body, timeout=600, path="/v1/completions"):
        """The connection on which the request was sent, and nothing received."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection

    def post(self, *request, **options):
        """As send(): the connection and its response, whose body is still to be read."""
        connection = self.send(*request, **options)
        return connection, connection.getresponse()

    def status(self, key):
        """A number of /proc/PID/status: KiB of VmRSS, Threads."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(rf"^{key}:\s*(\d+)", status.read(), re.M).group(1))


class Log:
    """What the clients saw."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = []  # (kind, seconds to the first token, seconds of all, tokens)
        self.errors = []
        self.left = 0

    def add(self, kind, first, whole, tokens):
        with self.lock:
            self.requests.append((kind, first, whole, tokens))

    def leave(self):
        with self.lock:
            self.left += 1

    def fail(self, kind, what):
        with self.lock:
            self.errors.append(f"{kind}: {what}")


def read_stream(response, began, leave_after):
    """(seconds to the first text, tokens, what is wrong); leaves after some chunks where that is wanted."""
    first, tokens, n_chunk, last = None, 0, 0, ""
    for line in response:
        if not line.startswith(b"data: "):
            continue
        last = line[6:].strip().decode()
        if last == "[DONE]":
            break
        chunk = json.loads(last)
        if "error" in chunk:
            return first, tokens, chunk["error"]["message"]
        if first is None:
            first = time.monotonic() - began
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        n_chunk += 1
        if n_chunk == leave_after:
            return first, 0, None
    return first, tokens, None if last == "[DONE]" else "the stream was cut"


def ask_once(server, log, randomness):
    is_long, streams = randomness.random() < 0.3, randomness.random() < 0.5
    leaves = randomness.random() < 0.15
    kind = ("long" if is_long else "short") + (" stream" if streams else "")
    body = {"prompt": text_of(randomness.randint(1000, 4000) if is_long else randomness.randint(10, 200), randomness),
            "max_tokens": randomness.randint(16, 128), "ignore_eos": True, "stream": streams,
            "stream_options": {"include_usage": True}}
    began = time.monotonic()
    try:
        if leaves and not streams:  # nobody waits for the answer
            connection = server.send(body)
            time.sleep(randomness.uniform(0, 2))
            connection.close()
            return log.leave()
        connection, response = server.post(body)
        if response.status != 200:
            return log.fail(kind, f"{response.status} {response.read()[:200]}")
        if streams:
            first, tokens, wrong = read_stream(response, began, randomness.randint(1, 20) if leaves else -1)
        else:
            answer = json.loads(response.read())
            first, tokens = answer["timings"]["first_token_ms"] / 1000, answer["usage"]["completion_tokens"]
            wrong = None
        whole = time.monotonic() - began
        connection.close()
        if leaves:
            log.leave()
        elif wrong or tokens != body["max_tokens"]:
            log.fail(kind, wrong or f"{tokens} tokens instead of {body['max_tokens']}")
        else:
            log.add(kind, first, whole, tokens)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        log.fail(kind, repr(error))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_log(log, seconds):
    print(f"{len(log.requests)} requests answered, {len(log.errors)} errors, {log.left} clients left early, "
          f"{sum(r[3] for r in log.requests) / seconds:.0f} tokens/s of answers")
    print("| prompts | answered | first token, median s | p95 | whole answer, median s | p95 |\n"
          "|---|---:|---:|---:|---:|---:|")
    for kind in sorted({r[0] for r in log.requests}):
        first = [r[1] for r in log.requests if r[0] == kind]
        whole = [r[2] for r in log.requests if r[0] == kind]
        print(f"| {kind} | {len(first)} | {statistics.median(first):.2f} | {percentile(first, 0.95):.2f} | "
              f"{statistics.median(whole):.2f} | {percentile(whole, 0.95):.2f} |")
    for error in log.errors[:20]:
        print("error:", error)


def load(server, options):
    """Clients that ask until the time is over, and a look at the server's memory every now and then."""
    log, began = Log(), time.monotonic()
    end = began + options.minutes * 60

    def client(number):
        randomness = random.Random(options.seed * 1000 + number)
        while time.monotonic() < end:
            ask_once(server, log, randomness)

    clients = [threading.Thread(target=client, args=(i,)) for i in range(options.clients)]
    for thread in clients:
        thread.start()
    print("| minute | resident MiB | threads | answered | errors |\n|---:|---:|---:|---:|---:|")
    while any(thread.is_alive() for thread in clients):
        print(f"| {(time.monotonic() - began) / 60:.1f} | {server.status('VmRSS') / 1024:.0f} | "
              f"{server.status('Threads')} | {len(log.requests)} | {len(log.errors)} |", flush=True)
        wake = time.monotonic() + max(options.minutes * 60 / 10, 1)
        while time.monotonic() < wake and any(thread.is_alive() for thread in clients):
            time.sleep(0.2)
    seconds = time.monotonic() - began
    print(f"| {seconds / 60:.1f} | {server.status('VmRSS') / 1024:.0f} | {server.status('Threads')} | "
          f"{len(log.requests)} | {len(log.errors)} |\n")
    print_log(log, seconds)
    return not log.errors


def chunk_times(server, body, times=None, enough=threading.Event()):
    """When the chunks of a stream with text came; leaves it when that is enough."""
    connection, response = server.post({**body, "stream": True})
    times = [] if times is None else times
    for line in response:
        if enough.is_set():
            break
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["text"]:
            times.append(time.monotonic())
    connection.close()
    return times


def answers_together(server, options):
    """Chunks per second while all answers grow, median of rounds. A chunk is a token, but for characters of several."""
    print("| answers at a time | tokens/s in all |\n|---:|---:|")
    randomness = random.Random(options.seed)
    for n in [int(n) for n in options.together.split(",")]:
        rates = []
        for round_ in range(options.rounds + 1):  # the first warms up
            times = [[] for _ in range(n)]

            def ask(i, prompt=text_of(20, randomness), times=times):
                body = {"prompt": prompt, "max_tokens": options.tokens, "ignore_eos": True}
                times[i] = chunk_times(server, body)

            clients = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
            begin, end = max(own[0] for own in times), min(own[-1] for own in times)  # all grow in between
            if round_ > 0:
                rates.append(sum(begin < at <= end for own in times for at in own) / (end - begin))
        print(f"| {n} | {statistics.median(rates):.0f} |", flush=True)
    return True


def rate_and_gap(times):
    """Tokens per second, and the longest time in ms between two."""
    return (len(times) - 1) / (times[-1] - times[0]), 1000 * max(b - a for a, b in zip(times, times[1:]))


def answer_beside_prompt(server, options):
    """An answer alone, a long prompt alone, and both at a time: medians of rounds."""
    randomness = random.Random(options.seed)
    answer = {"prompt": text_of(20, randomness), "max_tokens": options.tokens, "ignore_eos": True,
              "fastkv": {"reuse": False}}

    def read():
        began = time.monotonic()
        server.post({**answer, "prompt": text_of(options.beside, randomness), "max_tokens": 1})[1].read()
        return time.monotonic() - began

    rows = []  # (tokens/s, longest gap and prompt's seconds alone, the same together)
    for round_ in range(options.rounds + 1):  # the first warms up
        alone = (*rate_and_gap(chunk_times(server, answer)), read())
        times, enough = [], threading.Event()
        client = threading.Thread(target=chunk_times, args=(server, {**answer, "max_tokens": 4000}, times, enough))
        client.start()
        while len(times) < 10:
            time.sleep(0.01)
        first = len(times) - 1
        seconds = read()
        together = times[first:]
        enough.set()
        client.join()
        if round_ > 0:
            rows.append((*alone, *rate_and_gap(together), seconds))
    names = ("answer, tokens/s", "longest gap of the answer, ms", "prompt until its first token, s")
    medians = [statistics.median(column) for column in zip(*rows)]
    print("| | alone | together |\n|---|---:|---:|")
    for name, digits, alone, together in zip(names, (0, 0, 1), medians[:3], medians[3:]):
        print(f"| {name} | {alone:.{digits}f} | {together:.{digits}f} |", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fastkv")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--together", metavar="N,N,…", help="instead: this many answers at a time")
    parser.add_argument("--beside", type=int, metavar="N", help="instead: an answer beside a prompt of so many words")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer, with --together and --beside")
    parser.add_argument("--rounds", type=int, default=3, help="with --together and --beside")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", default="", help="further options of fastkv serve, as one text")
    options = parser.parse_args()
    parallel = ["--parallel", str(max(options.clients, 8))]
    with Server(options.fastkv, options.model, [*parallel, *options.serve.split()]) as server:
        kind = answers_together if options.together else answer_beside_prompt if options.beside else load
        good = kind(server, options)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
