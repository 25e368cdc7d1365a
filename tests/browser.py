"""A page as a browser without a screen shows it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
]  # fmt: skip
LOOK = (
    "<script>onload = () => { parent.postMessage(["
    "[...document.images].filter(i => i.complete && i.naturalWidth).length, "
    "document.documentElement.scrollWidth - innerWidth, "
    "performance.getEntriesByType('resource').filter("
    "r => !r.name.startsWith('data:')).length].join(), '*') }</script></body>"
)
FRAME = (
    "<!DOCTYPE html><meta charset=utf-8><script>onmessage = e => "
    "{{ document.body.dataset.said = e.data }}</script>"
    '<iframe src="looked_at.html" width="{width}" height="900"></iframe>'
)


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page.

    Attributes
    ----------
    pictures: that are whole.
    overflow: pixels by which the page is wider than the screen.
    requests: for anything outside the page.
    complaints: lines of the console.
    """

    pictures: int
    overflow: int
    requests: int
    complaints: list[str]


def shown(text: str, width: int, folder: Path) -> Shown:
    """Show a page on a screen so wide.

    The page allows no script; this copy allows the one that looks whether pictures are whole, in a
    frame as wide as the screen, for windows have a least width.
    """
    copy, frame = folder / "looked_at.html", folder / "frame.html"
    allowed = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    copy.write_text(allowed.replace("</body>", LOOK), encoding="utf-8")
    frame.write_text(FRAME.format(width=width))
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000",
         "--virtual-time-budget=20000", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = re.search(r'data-said="([^"]*)"', done.stdout)
    assert said, done.stdout
    pictures, overflow, requests = (int(number) for number in said[1].split(","))
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Shown(pictures, max(0, overflow), requests, complaints)
