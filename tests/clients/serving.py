"""What the clients share: a fastkv serve with a tiny model, and plain requests to it."""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

KEY = "a-key"


def check(condition, what):
    if not condition:
        sys.exit(f"wrong: {what}")


def give_up_without(client, may_be_missing=False):
    """Exit code 77 (skipped) where a client is not there and need not be."""
    print(f"{client} is not installed: this test needs it and does not run")
    sys.exit(1 if os.environ.get("FASTKV_REQUIRE_SHARED") and not may_be_missing else 77)


@contextlib.contextmanager
def serving(fastkv, write_tiny_model):
    """The address of a server, which must end well."""
    with tempfile.TemporaryDirectory() as folder:
        model = folder + "/tiny.gguf"
        subprocess.run([write_tiny_model, model], check=True)
        command = [fastkv, "serve", "-m", model, "-t", "1", "--port", "0", "--alias", "tiny", "--api-key", KEY]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                yield re.search(r"http://\S+", server.stderr.readline()).group()
            finally:
                server.send_signal(signal.SIGTERM)
            check(server.wait(60) == 0, "the server's exit code")


def post(url, path, body):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + KEY}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)
