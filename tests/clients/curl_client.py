"""curl against fastkv serve: a whole answer, a stream as it comes, errors, a body from a file.

usage: curl_client.py FASTKV WRITE_TINY_MODEL. Exit code 77 where curl is not there and need not be.
"""
import json
import shutil
import subprocess
import sys

import serving
from serving import check

if not shutil.which("curl"):
    serving.give_up_without("curl")


def curl(*arguments, given=None):
    """What curl prints: the body, then the status in a line of its own."""
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    check(done.returncode == 0, f"curl's exit code {done.returncode}: {done.stderr}")
    body, status = done.stdout.rsplit("\n", 1)
    return body, int(status)


def ask(url):
    key = ["-H", "Authorization: Bearer " + serving.KEY]
    wanted = json.dumps({"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 8})
    body, status = curl(url + "/v1/chat/completions", *key, "-d", wanted)  # as a form, which is curl's way of -d
    check(status == 200, "the status of an answer")
    answer = json.loads(body)

    streamed = wanted[:-1] + ', "stream": true}'
    body, status = curl("--no-buffer", url + "/v1/chat/completions", *key, "-d", streamed)
    check(status == 200, "the status of a stream")
    events = body.split("\n\n")
    check(events[-1].strip() == "" and events[-2] == "data: [DONE]", "the end of a stream")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    check(all(event.startswith("data: ") for event in events[:-1]), "the events of a stream")
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    check(text == answer["choices"][0]["message"]["content"], "the text of a stream")
    check(chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length"), "the last chunk of a stream")

    # A long body makes curl ask first whether it is wanted (Expect: 100-continue).
    long = json.dumps({"prompt": "word " * 500, "max_tokens": 1, "unknown": "x" * 2000000})
    body, status = curl(url + "/v1/completions", *key, "--data-binary", "@-", given=long)
    check(status == 200 and json.loads(body)["usage"]["completion_tokens"] == 1, "a long body")
    check(curl(url + "/v1/completions", *key, "-d", "{")[1] == 400, "the status of a body that is no JSON")
    check(curl(url + "/v1/models")[1] == 401, "the status without a key")
    check(curl(url + "/health", "--head")[1] == 200, "the status of a HEAD")
    check(curl(url + "/v1/completions", *key, "-X", "DELETE")[1] == 405, "the status of another method")


def main(fastkv, write_tiny_model):
    with serving.serving(fastkv, write_tiny_model) as url:
        ask(url)


main(*sys.argv[1:])
