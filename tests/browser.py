"""Headless Chromium, driven over a pipe by the DevTools protocol: real pointer events, and what the page then holds."""

import base64
import json
import os
import shutil
import subprocess
import time

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 30.0  # seconds: of a machine that has other things to do


class Browser:
    """One page of a headless browser."""

    def __init__(self, profile, width=1280, height=1000):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "-", CHROMIUM, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._last, self._rest, self.problems = 0, b"", []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def _ask(self, method, **params):
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._last:
                if "error" in reply:
                    raise RuntimeError(f"{method}: {reply['error']}")
                return reply["result"]
            if reply.get("method") == "Runtime.exceptionThrown":
                self.problems.append(reply["params"]["exceptionDetails"])
            if (
                reply.get("method") == "Log.entryAdded"
                and reply["params"]["entry"]["level"] == "error"
            ):
                self.problems.append(reply["params"]["entry"])

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 2**20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def resize(self, width, height):
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def open(self, url, ready="document.body?.dataset.ready === 'true'"):
        self._ask("Page.navigate", url=url)
        self.wait(ready)

    def run(self, script):
        """Value of an expression, which may be a promise."""
        result = self._ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description"))
        return result["result"].get("value")

    def wait(self, condition, patience=PATIENCE):
        end = time.monotonic() + patience
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}; {self.problems}")
            time.sleep(0.02)

    def box(self, selector):
        """Left, top, width and height of an element in the window, scrolled into view."""
        return self.run(
            f"(() => {{ const node = document.querySelector({selector!r}); node.scrollIntoView({{block: 'nearest'}});"
            "const b = node.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )

    def mouse(self, kind, x, y, held=False, modifiers=0):
        self._ask(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, modifiers=modifiers, clickCount=1,
            button="none" if kind == "mouseMoved" and not held else "left", buttons=int(held),
        )  # fmt: skip

    def drag(self, points):
        """Press at the first point (x, y) of the window, move over all, release at the last."""
        self.mouse("mouseMoved", *points[0])
        self.mouse("mousePressed", *points[0], held=True)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, held=True)
        self.mouse("mouseReleased", *points[-1])

    def click(self, selector):
        left, top, width, height = self.box(selector)
        point = left + width / 2, top + height / 2
        self.drag([point, point])

    def key(self, key):
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent", type=kind, key=key, **(text if kind == "keyDown" else {})
            )

    def whole_page(self, path, width):
        """A picture of the page from top to bottom."""
        self.resize(width, 900)
        height = self.run("document.documentElement.scrollHeight")
        self.resize(width, int(height))
        self.picture(path)
        self.resize(width, 900)

    def picture(self, path):
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))
