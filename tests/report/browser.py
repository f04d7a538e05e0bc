"""A real browser without a window, where one is installed."""

import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


def browse(page: Path, *options: str) -> str:
    """What the browser prints about `page`; its profile lies beside it."""
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=1000",
             *options, page.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout
