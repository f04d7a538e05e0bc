"""Draws the pictures of these pages from what the program shows.

    python docs/draw_pictures.py

It runs the demo, and one sample job against a slow simulator. The page is drawn where a
Chromium is installed.
"""

import io
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from rich.console import Console
from rich.text import Text

from batcher import wiring
from batcher.cli.run.display import Quiet
from batcher.cli.run.panel import panel
from batcher.clock import SystemClock
from batcher.config.tables import Settings
from batcher.monitoring.progress_text import Meter

PICTURES = Path(__file__).parent / "pictures"
JOBS = Path(__file__).parent.parent / "jobs"
COLUMNS = 100
# Without the font that rich would have a page load from elsewhere.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>.{unique_id}-matrix{{font-family:Menlo,Consolas,"DejaVu Sans Mono",monospace;\
font-size:{char_height}px;line-height:{line_height}px}}{styles}</style>
<defs>{lines}</defs>{chrome}
<g transform="translate({terminal_x},{terminal_y})">{backgrounds}\
<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


class Watcher(Quiet):
    """Draws the panel once, when two fifths of the rows are done."""

    def started(self, event):
        super().started(event)
        threading.Thread(target=self._draw, args=(event.progress,), daemon=True).start()

    def _draw(self, progress):
        clock, meter = SystemClock(), Meter(progress)
        while progress.answered < 600:
            meter.read(clock.monotonic())
            clock.sleep(0.1)
        reading = meter.read(clock.monotonic())
        save("panel", panel(progress, reading), "batcher run tickets.toml", columns=80)


def save(name, shown, title, columns=COLUMNS):
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    console.save_svg(PICTURES / f"{name}.svg", title=title, code_format=SVG, unique_id="b")


def on_a_terminal(*words):
    """What a terminal shows of a command, with its colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "batcher", *words]
    child = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # its end, on Linux
        pass
    child.wait()
    return Text.from_ansi(shown.decode().replace("\r\n", "\n"))


def main():
    PICTURES.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "batcher", "simulate", "--latency-ms", "400-900"]
    simulator = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        url = simulator.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            draw_all(url, Path(folder) / "batcher.db")
    finally:
        simulator.terminate()


def draw_all(url, database):
    options = Settings(
        endpoint="simulator",
        base_url=url,
        database=str(database),
        concurrency=64,
        max_cost="25",
    )
    asked = wiring.Asked(command="", job_path=JOBS / "tickets.toml", options=options)
    wiring.run(wiring.resolve(asked), Watcher(assume_yes=True))
    demo = database.with_name("batcher-demo.db")
    subprocess.run([sys.executable, "-m", "batcher", "demo"], cwd=demo.parent, check=True)
    named = ("--database", str(demo))
    save("report", on_a_terminal("report", *named), "batcher report")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser:
        page = database.with_name("costs.html")
        on_a_terminal("report", "--format", "html", "-o", str(page), *named)
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1000,1000")
        picture = f"--screenshot={PICTURES / 'page.png'}"
        subprocess.run(
            [browser, *options, picture, page.as_uri()], check=True, capture_output=True
        )


if __name__ == "__main__":
    main()
