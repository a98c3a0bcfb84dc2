"""Pictures of HTML pages, by a headless Chromium over its debugging pipe: see scripts/screenshots.

    screenshots.py FOLDER PAGE...
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

DESKTOP, PHONE, HEIGHT_MAX = (1280, 800), (390, 844), 2400
BROWSER = (
    "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
).split()


class Browser:
    """Messages are JSON that a NUL ends: to the browser on its descriptor 3, from it on 4."""

    def __init__(self, profile):
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()

        def descriptors():
            # Out of the way first: the pipes' own numbers may be 3 and 4.
            ours = os.dup(to_browser), os.dup(from_browser)
            os.dup2(ours[0], 3)
            os.dup2(ours[1], 4)

        self.process = subprocess.Popen(
            [*BROWSER, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=descriptors,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.session, self.unread = 0, None, b""

    def message(self):
        while b"\0" not in self.unread:
            more = os.read(self.answers, 1 << 20)
            if not more:
                sys.exit("the browser ended")
            self.unread += more
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        command = {"id": self.number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, page):
        if not self.session:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self.call("Page.enable")
        self.call("Page.navigate", url=page.resolve().as_uri())
        while self.message().get("method") != "Page.loadEventFired":
            pass

    def picture(self, size, scheme):
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        content = self.call("Page.getLayoutMetrics")["cssContentSize"]
        if content["width"] > width:
            sys.exit(f"the page is {content['width']} wide at {width}: something sticks out")
        # The beginning of a page tells enough of how it looks.
        clip = {"x": 0, "y": 0, "width": width, "height": min(content["height"], HEIGHT_MAX), "scale": 1}
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(picture["data"])

    def print(self):
        self.call("Emulation.clearDeviceMetricsOverride")
        pdf = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(pdf["data"])

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait()


def main(folder, pages):
    folder = pathlib.Path(folder)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        for page in map(pathlib.Path, pages):
            browser.open(page)
            for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
                for scheme in ("light", "dark"):
                    small(browser.picture(size, scheme), folder / f"{page.stem}-{device}-{scheme}.png")
            pdf = page.with_suffix(".pdf")
            pdf.write_bytes(browser.print())
            subprocess.run(
                ["pdftoppm", "-png", "-r", "70", "-f", "1", "-l", "1", "-singlefile", pdf, page.with_suffix("")],
                check=True,
            )
            small(page.with_suffix(".png").read_bytes(), folder / f"{page.stem}-print.png")
        browser.close()


def small(picture, path):
    done = subprocess.run(["pngquant", "--strip", "--speed", "1", "48", "-"], input=picture, capture_output=True, check=True)
    path.write_bytes(done.stdout)


main(sys.argv[1], sys.argv[2:])
