"""Headless Chromium for tests of pages."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="needs Chromium, for example Debian's package `chromium`")

_DRIVER = """<script>
const found = { errors: [], requests: [], results: {} };
addEventListener("error", (event) => found.errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => found.errors.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => found.errors.push("blocked: " + event.blockedURI));
const press = (key) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const get = (id) => document.getElementById(id);
const until = async (isTrue) => { while (!isTrue()) await new Promise((done) => setTimeout(done, 20)); };
addEventListener("load", async () => {
  try {
    found.results = await (async () => { ACTIONS })();
  } catch (error) {
    found.errors.push(String(error));
  }
  const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.requests = loaded.filter((name) => !name.startsWith("data:"));
  const kept = document.createElement("pre");
  kept.id = "found";
  kept.textContent = JSON.stringify(found);
  document.body.append(kept);
  document.title = "done";
});
</script>"""


def with_actions(page: str, actions: str) -> str:
    """A page that does what a person would do with it once it is loaded, and writes down what came of it.

    Args:
        page: HTML with a `<head>`.
        actions: body of an asynchronous function of JavaScript, which returns what is to be found.

    Returns:
        The page.
    """
    return page.replace("<head>", "<head>" + _DRIVER.replace("ACTIONS", actions), 1)


def visit(url: str, folder: Path) -> dict[str, Any]:
    """Opens a page that `with_actions` made.

    Args:
        url: of the page.
        folder: for the browser's profile.

    Returns:
        `results` of the actions, `errors` of the page and of its console, and `requests` for anything but data.
    """
    assert _CHROMIUM is not None
    command = [
        *(_CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
        *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--timeout=500000"),
        *("--dump-dom", url),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=540)
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown is not None, (done.stderr[-2000:], done.stdout[-500:])
    found: dict[str, Any] = json.loads(html.unescape(shown[1]))
    found["errors"] += [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return found
