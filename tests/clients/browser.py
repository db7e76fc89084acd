"""Chromium without a window, driven over the DevTools protocol on a pipe: keys, scripts, what it asked for and said."""
import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time

KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
        "Home": 36, "End": 35, " ": 32}


def find():
    """The browser's program, or None."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, filter(None, names)) if path), None)


class Browser:
    """One page. `requests` are the addresses that it asked for, `complaints` what its console shows as wrong."""

    def __init__(self, program):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_read, self.command = os.pipe()
        self.reply, reply_write = os.pipe()

        def connect():  # the browser reads commands from descriptor 3 and writes to 4
            read, write = (fcntl.fcntl(own, fcntl.F_DUPFD, 10) for own in (command_read, reply_write))
            os.dup2(read, 3)
            os.dup2(write, 4)

        arguments = [program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                     "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--user-data-dir=" + self.profile.name, "about:blank"]
        self.log = open(self.profile.name + "/stderr", "w+")
        self.process = subprocess.Popen(arguments, close_fds=False, preexec_fn=connect, stdout=self.log,
                                        stderr=self.log)
        os.close(command_read)
        os.close(reply_write)
        self.unread, self.n_sent, self.session = b"", 0, None
        self.requests, self.complaints, self.loads = [], [], 0
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.send(domain + ".enable")

    def close(self):
        try:
            self.session = None
            self.send("Browser.close")
        except (EOFError, OSError):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        os.close(self.command)
        os.close(self.reply)
        self.profile.cleanup()

    # ---- the protocol: JSON texts, each with a zero byte behind it ----

    def send(self, method, **params):
        self.n_sent += 1
        message = {"id": self.n_sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.command, data):]
        while True:
            reply = self._receive()
            if reply.get("id") == self.n_sent:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]
            self._note(reply)

    def _receive(self):
        while b"\0" not in self.unread:
            data = os.read(self.reply, 1 << 16)
            if not data:
                self.log.seek(0)
                raise EOFError("the browser has ended: " + self.log.read()[-2000:])
            self.unread += data
        text, self.unread = self.unread.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([argument.get("value") for argument in params["args"]]))

    # ---- what a person does and sees ----

    def open(self, url):
        before = self.loads
        self.send("Page.navigate", url=url)
        deadline = time.monotonic() + 60
        while self.loads == before:
            if time.monotonic() > deadline:
                raise TimeoutError(url + " was not loaded")
            self.run("0")
            time.sleep(0.02)

    def run(self, script):
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script, seconds=60):
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.05)
        return value

    def press(self, key, modifiers=0):
        code = KEYS[key]
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code,
                  "modifiers": modifiers}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common,
                  **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def tab_to(self, element_id):
        """By Tab alone, as somebody without a mouse."""
        for _ in range(60):
            if self.run(f"document.activeElement.id === '{element_id}'"):
                return
            self.press("Tab")
        raise AssertionError(f"Tab does not reach #{element_id}")

    def drop(self, path, x, y):
        """A file from the desktop."""
        data = {"items": [], "files": [path], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def colours(self, scheme):
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width, height, scale=1):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=False)

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
