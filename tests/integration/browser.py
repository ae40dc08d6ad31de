"""A headless Chromium, driven through chromedriver's WebDriver protocol: for the status page alone."""

import json
import os
import shutil
import urllib.request

from harness import free_port, skip, wait_until

DEADLINE_SEC = 60


class Browser:
    """One window. Leaving it ends the session; the driver is the Work's."""

    def __init__(self, work):
        for name in ("chromium", "chromedriver"):
            if not shutil.which(name):
                skip(f"{name} is not installed")
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        work.path("browser").mkdir()
        home = {**os.environ, "HOME": str(work.path("browser")), "XDG_CONFIG_HOME": str(work.path("browser"))}
        driver = work.spawn(["chromedriver", f"--port={port}"], "driver.log", env=home)
        driver.wait_output("started successfully")
        wait_until(lambda: self._ask("GET", "/status")["ready"], "the driver")
        # Without a sandbox, as containers forbid what it is made of: it sees our own page only.
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={work.path('browser', 'profile')}"]
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.session = f"/session/{session['sessionId']}"

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE_SEC) as reply:
            return json.loads(reply.read())["value"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ask("DELETE", self.session)

    def devtools(self, command, **parameters):
        return self._ask("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def window(self, width, height, dark=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        self._ask("POST", f"{self.session}/url", {"url": url})

    def run(self, script):
        """What the script returns. It runs in spite of the page's policy, which is for the page."""
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def complaints(self):
        """What the console has said since it was asked last."""
        return [line["message"] for line in self._ask("POST", f"{self.session}/se/log", {"type": "browser"})]

    def picture(self):
        """The whole page as PNG, in base64."""
        return self.devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"]
