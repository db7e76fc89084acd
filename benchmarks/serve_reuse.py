"""What stored sessions of fastkv serve spare: the time to the first token of a long document with a question, of further
questions on it, of the next turn, and of both after the server was restarted.

    python3 benchmarks/serve_reuse.py build/release/bin/fastkv model.gguf --words 7000 --methods fullkv,fastkv

Prints a table of seconds, medians of rounds, and how many tokens of the prompt a stored session had read. Every round
has another document. Python's standard library is all that it needs.
"""
import argparse
import json
import random
import statistics
import tempfile
import time

from serve_load import Server, text_of

ROWS = ("document and question in one message", "next turn of the conversation", "next turn after a restart",
        "document_id: first question", "document_id: second question", "document_id: third, after a restart")


def ask(server, messages, fastkv):
    """(seconds to the first text, tokens that a stored session has spared, the answer)"""
    body = {"messages": messages, "max_tokens": 32, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}, "fastkv": fastkv}
    began, first, text, cached = time.monotonic(), None, "", 0
    connection, response = server.post(body, path="/v1/chat/completions")
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        piece = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
        if piece:
            first = first or time.monotonic() - began
            text += piece
        if chunk.get("usage"):
            cached = chunk["usage"]["prompt_tokens_details"]["cached_tokens"]
    connection.close()
    return first, cached, text


def said(role, content):
    return {"role": role, "content": content}


def measure(start, method, document):
    """(seconds, cached tokens) of each of ROWS."""
    talk = [said("user", document + "\n\nWho built it?")]
    named = {"method": method, "document_id": "document"}
    results = {}

    def turn(server, row, question):
        if question:
            talk.append(said("user", question))
        *results[row], answer = ask(server, talk, {"method": method})
        talk.append(said("assistant", answer))

    def question(server, row, text):
        *results[row], _ = ask(server, [said("user", document), said("user", text)], named)

    with start() as server:
        ask(server, [said("user", "Hello")], {"method": method})  # warms up
        turn(server, 0, None)
        turn(server, 1, "Where did they come from?")
        question(server, 3, "Who built it?")
        question(server, 4, "Where did they come from?")
    with start() as server:
        ask(server, [said("user", "Hello")], {"method": method})
        turn(server, 2, "When did they leave?")
        question(server, 5, "When did they leave?")
    return [results[row] for row in range(len(ROWS))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fastkv")
    parser.add_argument("model")
    parser.add_argument("--words", type=int, default=7000)
    parser.add_argument("--methods", default="fullkv,fastkv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve", default="", help="further options of fastkv serve, as one text")
    options = parser.parse_args()
    randomness = random.Random(options.seed)
    for method in options.methods.split(","):
        rounds = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                extra = ["--session-dir", folder, *options.serve.split()]
                rounds.append(measure(lambda extra=extra: Server(options.fastkv, options.model, extra), method,
                                      text_of(options.words, randomness)))
        print(f"| {method} | first token, s | tokens not read |\n|---|---:|---:|")
        for row, name in enumerate(ROWS):
            seconds = statistics.median(own[row][0] for own in rounds)
            print(f"| {name} | {seconds:.2f} | {statistics.median_low([own[row][1] for own in rounds])} |", flush=True)


if __name__ == "__main__":
    main()
