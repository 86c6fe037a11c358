"""JupyterLab as a person uses it.

`make lab` opens on the index, notebooks run with Run All, the viewer's slider moves the picture.

`make test-browser` runs this against a finished demo, with the system's Chromium (CHROMIUM names
another one); `make test` does not. The notebooks are copies, as JupyterLab saves outputs into what
it runs. Screenshots go to `build/browser`.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "build" / "browser"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
MINUTES = 60_000  # milliseconds
STATE = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.model.cells
  const found = {waiting: 0, errors: []}
  for (let k = 0; k < cells.length; k++) {
    const cell = cells.get(k)
    if (cell.type !== "code") continue
    found.waiting += cell.executionCount === null || cell.executionState === "running"
    for (let o = 0; o < cell.outputs.length; o++) {
      const output = cell.outputs.get(o)
      if (output.type === "error") found.errors.push(output.toJSON().evalue)
    }
  }
  return found
}"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project as JupyterLab may change it.

    Notebooks are copies, data and the finished run are the demo's.
    """
    if not (ROOT / "runs" / "demo" / "submission.csv").is_file():
        pytest.fail("runs/demo holds no finished run: run make demo first.")
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "docs", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Makefile", "Snakefile"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("data", "runs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def lab(project, tmp_path_factory):
    """The server that `make lab` starts, without opening a browser; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, own = secrets.token_hex(16), tmp_path_factory.mktemp("jupyter")
    options = (
        f"--no-browser --allow-root --expose-app-in-browser --ServerApp.port={port} "
        f"--ServerApp.port_retries=0 --IdentityProvider.token={token}"
    )
    environment = os.environ | {
        f"JUPYTER{name}": str(own / name)
        for name in ("LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR", "_RUNTIME_DIR")
    }
    command = [
        "make",
        "-C",
        str(project),
        "-o",
        ".venv/installed",
        "lab",
        f"BIN={Path(sys.executable).parent}",
        f"LAB_OPTIONS={options}",
    ]
    with (
        (own / "server.txt").open("w") as log,
        subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/api", server, own / "server.txt")
            yield f"http://127.0.0.1:{port}", token
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def wait_for(address, server, log, *, seconds=60):
    """Wait until the server answers."""
    for _ in range(2 * seconds):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
    pytest.fail(f"The server did not answer within {seconds} s: {log.read_text()}")


@pytest.fixture(scope="module")
def page():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.set_default_timeout(MINUTES)
        yield opened
        browser.close()


def open_notebook(page, lab, name):
    address, token = lab
    page.goto(f"{address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?reset&token={token}")
    expect(page.locator(".jp-NotebookPanel:visible .jp-Cell").first).to_be_visible()
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status "
        "=== 'idle'"
    )


def run_all(page):
    """Click Run, Run All Cells and wait until every code cell has a number.

    Return what went wrong.
    """
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        f"() => {{ const s = ({STATE})(); return s.errors.length || !s.waiting }}",
        timeout=4 * MINUTES,
        polling=500,
    )
    return page.evaluate(STATE)["errors"]


def move(page, slider, key, times=3):
    """Move a slider with the keyboard, as the picture is redrawn for every step.

    Return the picture before and after.
    """
    picture = page.locator("img.widget-image").first
    picture.scroll_into_view_if_needed()
    before = picture.screenshot()
    slider.focus()
    for _ in range(times):
        page.keyboard.press(key)
    page.wait_for_timeout(1500)
    return before, picture.screenshot()


def test_make_lab_opens_on_the_index_with_its_pictures(page, lab):
    address, token = lab
    page.goto(f"{address}/?token={token}")
    index = page.locator(".jp-MarkdownViewer")
    expect(index.get_by_role("heading", name="The notebooks")).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-MarkdownViewer img')].filter(i => "
        "i.naturalWidth > 0).length >= 6"
    )
    page.screenshot(path=SHOTS / "index.png")
    index.get_by_role("link", name="01 ").first.click()
    expect(page.locator(".jp-NotebookPanel:visible")).to_be_visible()


@pytest.mark.parametrize("name", ["01_eda", "03_train_seg", "06_submission"])
def test_a_notebook_runs_with_run_all(page, lab, name):
    open_notebook(page, lab, name)
    assert run_all(page) == []
    page.screenshot(path=SHOTS / f"{name}.png")
    if name == "06_submission":
        return
    handles = page.locator(".widget-slider .noUi-handle")
    before, after = move(page, handles.first, "ArrowRight")
    page.screenshot(path=SHOTS / f"{name}_slice.png")
    assert before != after
    # the lower end of the window
    before, after = move(page, handles.nth(1), "ArrowRight", times=20)
    page.screenshot(path=SHOTS / f"{name}_window.png")
    assert before != after
    if name == "03_train_seg":
        masks = page.locator(".widget-checkbox input")
        picture = page.locator("img.widget-image").first
        with_masks = picture.screenshot()
        masks.uncheck()
        page.wait_for_timeout(1500)
        page.screenshot(path=SHOTS / f"{name}_without_masks.png")
        assert picture.screenshot() != with_masks


def test_the_page_of_the_report_opens_without_a_server(page):
    page.goto((ROOT / "runs" / "demo" / "report" / "index.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("() => [...document.images].every(image => image.naturalWidth > 0)")
    page.screenshot(path=SHOTS / "report.png", full_page=True)
