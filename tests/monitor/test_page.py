"""Promises of the live page: one file without a network, names are text in a real browser, silence is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ps.monitor.job_watcher import JobWatcher
from ps.monitor.page_server import PageServer
from support.watched import FEDERATED, HOSTILE, job, server, worker

pytest.importorskip("plotly", reason="draws the page: pip install 'paramserver[monitor]'")

from ps.monitor.page import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--virtual-time-budget=9000",
)


@pytest.fixture(scope="module")
def whole() -> str:
    return page()


def test_it_is_one_file_below_five_megabytes_that_loads_nothing(whole: str) -> None:
    assert len(whole.encode()) < 5_000_000
    bare = re.sub(r"<script>.*?</script>", "", whole, flags=re.DOTALL)
    assert not re.findall(r"https?://", bare) and bare.count("<link") == 1 and "data:," in bare
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', whole)
    assert policy and "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]
    assert policy[1].count("sha256-") == 2 and "script-src 'sha256" in policy[1]


def test_its_script_puts_in_nothing_as_markup() -> None:
    script = resources.files("ps.monitor").joinpath("page.js").read_text()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", script)


@pytest.mark.skipif(NODE is None, reason="no node (Debian: apt install nodejs)")
def test_its_script_is_one_that_a_browser_reads() -> None:
    script = Path(str(resources.files("ps.monitor").joinpath("page.js")))
    subprocess.run([str(NODE), "--check", str(script)], check=True, timeout=60)


def hostile() -> dict[str, Any]:
    """Return a status full of names that would be scripts if they were markup."""
    markup = HOSTILE[:4]
    metrics: dict[str, Any] = dict.fromkeys(markup, 0.5)
    rows = [
        worker(0, host=markup[0], metrics={**metrics, "loss": "nan"}, ranges={"loss": [0.1, 7e5, 3]}, waiting_for=[1]),
        worker(1, why=markup[1], rejected={markup[0]: 1}, measured={markup[1]: 0.75}, measured_clock=8),
    ]
    entry = {**FEDERATED["history"][0], "metrics": {name: {"mean": 1.0, "p50": 1.0, "n": 2} for name in markup}}
    federated = {**FEDERATED, "algorithm": markup[0], "refused": {markup[1]: 2}, "history": [entry]}
    deaths = [{"role": markup[0], "rank": 1, "why": markup[1]}]
    status = job(rows, [server(0, host=markup[1])], reason=markup[0], federated=federated, deaths=deaths)
    status["job"]["optimizer"] = markup[0]
    return status


@pytest.mark.e2e
@pytest.mark.long("the server's and the script's own tests hold what it promises, this one looks with a browser")
@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt install chromium)")
def test_in_a_real_browser_all_is_shown_names_are_text_and_it_says_when_there_is_no_news(
    whole: str, tmp_path: Path
) -> None:
    watcher = JobWatcher(hostile)
    for _ in range(3):
        watcher.look()
    sock = socket.create_server(("127.0.0.1", 0))
    # What the browser has when it is looked at: a script of the test's own tells, once there is news and silence.
    probe = """
addEventListener("load", () => setTimeout(() => document.documentElement.setAttribute("data-probe", JSON.stringify({
  news: document.getElementById("news").textContent, plots: document.querySelectorAll(".js-plotly-plot").length,
  images: document.querySelectorAll("img").length, scripts: document.scripts.length, title: document.title,
  width: document.documentElement.scrollWidth, pwned: window.pwned || 0 })), 7200));"""
    from ps.compare.page import digest

    shown = whole.replace("script-src ", f"script-src 'sha256-{digest(probe)}' ", 1)
    shown = shown.replace("</body></html>", f"<script>{probe}</script></body></html>")
    served = PageServer(sock, watcher, lambda: shown)
    served.start()
    try:
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path}", "--window-size=390,844", "--dump-dom"]
        command.append(f"http://127.0.0.1:{sock.getsockname()[1]}/")
        env = {**os.environ, "HOME": str(tmp_path)}
        run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=env)
    finally:
        served.close()
    found = re.search(r'data-probe="([^"]*)"', run.stdout)
    assert found, run.stderr[-2000:]
    probe_told = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">"))
    assert probe_told["images"] == 0 and probe_told["pwned"] == 0 and probe_told["scripts"] == 3
    assert probe_told["plots"] >= 6 and "not live: no news for" in probe_told["news"]
    assert probe_told["width"] <= 500  # no scrolling sideways; headless windows have at least 500 pixels
    assert "&lt;img src=x onerror=alert(1)&gt;" in run.stdout and "NaN" in run.stdout


SCRIPT = """
import time
import numpy as np
import ps
with ps.connect() as kv:
    params = kv.init({"w": np.zeros(4, np.float32)})
    while not __import__("os").path.exists("stop"):
        kv.step({"w": np.ones(4, np.float32)}, loss=0.5, examples=2)
        time.sleep(0.05)
"""


@pytest.mark.e2e
def test_psctl_run_with_a_page_serves_it_while_the_run_lasts_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "ps.cli", "run", "-w", "2", "--page", "--page-port", "0", "train.py"]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    try:
        line = next(line for line in run.stderr if "the page of this run is at" in line)
        reader = threading.Thread(target=run.stderr.read)
        reader.start()
        address = line.split(" at ")[1].strip()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline, found = time.monotonic() + 60, {}
        while found.get("now", {}).get("samples_per_s", 0) == 0 or "steps_per_s" not in found["now"]:
            assert time.monotonic() < deadline, found
            time.sleep(0.3)
            try:
                with opener.open(f"{address}snapshot.json", timeout=5) as answer:
                    found = json.load(answer)["snapshot"]
            except urllib.error.HTTPError as error:  # the scheduler has not answered yet
                error.close()
            except OSError:  # the page is still being made
                pass
        assert found["totals"]["workers"] == {"live": 2} and found["metrics"]["loss"]["mean"] == 0.5
        (tmp_path / "stop").touch()
        assert run.wait(60) == 0
        with pytest.raises(OSError):
            opener.open(address, timeout=5)
    finally:
        run.kill()
        run.wait()
        reader.join(10)
        run.stderr.close()


def test_a_port_in_use_ends_a_run_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "ps.cli", "run", "--page", "--page-port", port, "train.py"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 5 and run.stderr.count("\n") == 1 and "--page-port" in run.stderr
