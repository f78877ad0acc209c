"""`cudadent-tune report`: a page made of a real database, and what it refuses."""

import html.parser
import json
import os
import shutil
import sqlite3
import subprocess

import cudadent
import pytest

PROGRAM = shutil.which("cudadent-tune")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="cudadent-tune is not on PATH")

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def report(*words):
    return subprocess.run(
        [PROGRAM, "report", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Two problems that were tuned, one with a failure, whose texts are not to be trusted."""
    file = tmp_path_factory.mktemp("report") / "tuned.db"
    with cudadent.Runtime("host", cache=file) as runtime:
        for rows in (3, 4):
            runtime.tune("rms_norm", rows=rows, columns=64, dtype="f32", budget="3 trials")
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE problems SET description = description || ?"
            " WHERE id = (SELECT max(id) FROM problems)",
            (EVIL,),
        )
        connection.execute(
            "UPDATE trials SET status = 'compile_error', message = ?, median = NULL"
            " WHERE id = (SELECT max(id) FROM trials)",
            (EVIL,),
        )
    connection.close()
    return file


@pytest.fixture(scope="module")
def page(database, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    answer = report("--db", database, "--html", file)
    if "without Chart.js" in answer.stderr:
        pytest.skip("cudadent-tune was built without Chart.js")
    assert answer.returncode == 0, answer.stderr
    return file


class Reader(html.parser.HTMLParser):
    """Every element with its attributes, and what scripts and styles hold."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.styles = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        {"script": self.scripts, "style": self.styles}.get(tag, []).append("")

    def handle_data(self, data):
        tag = self.elements[-1][0] if self.elements else ""
        if tag == "script":
            self.scripts[-1] += data
        elif tag == "style":
            self.styles[-1] += data


def test_the_page_needs_nothing_but_itself(page):
    reader = Reader(page.read_text())
    for tag, attributes in reader.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "data", "onerror", "onload"} & set(attributes), tag
    policy = [a["content"] for t, a in reader.elements if a.get("http-equiv")]
    assert policy and "default-src 'none'" in policy[0]
    assert len(reader.scripts) == 3
    assert "Chart.js v" in reader.scripts[1]
    assert "MIT License" in reader.scripts[1]
    for text in (*reader.styles, reader.scripts[2]):
        assert not any(word in text for word in ("@import", "url(", "http:", "https:", "fetch("))


def test_the_page_shows_every_problem(page):
    data = json.loads(Reader(page.read_text()).scripts[0])
    overview, first, second = data["sections"]
    table = overview["blocks"][0]
    assert [row[0]["target"] for row in table["rows"]] == [first["id"], second["id"]]
    assert first["title"].startswith("rms_norm")
    assert second["title"].endswith(EVIL)
    titles = [block["title"] for block in second["blocks"] if block["kind"] == "figure"]
    assert {"Distribution of trials", "Best so far", "Roofline", "Where the time went"} <= set(titles)
    assert "How trials ended" in titles  # one failed
    assert "host: which parameters matter" in titles
    captions = [block.get("caption") for block in second["blocks"] if block["kind"] == "table"]
    assert {"Fastest trials", "Failures", "Tuning runs", "Where this comes from"} <= set(captions)
    assert any(caption.startswith("How well priors rank") for caption in captions)


def test_shares_of_a_run_make_up_the_whole(page):
    data = json.loads(Reader(page.read_text()).scripts[0])
    figures = [b for s in data["sections"] for b in s["blocks"] if b["kind"] == "figure"]
    phases = next(figure for figure in figures if figure["title"] == "Where the time went")
    total = sum(series["values"][0][0] for series in phases["series"])
    assert total == pytest.approx(1, abs=0.01)


def test_words_choose_problems(database, page, tmp_path):
    answer = report("--db", database, "--html", tmp_path / "a.html", "--json", "rms_norm", "rows=3")
    told = json.loads(answer.stdout)
    assert told["problems"] == 1
    (prior,) = told["priors"]
    assert (prior["template"], prior["trials"]) == ("host", 3)
    assert -1 <= prior["correlation"] <= 1
    assert 0 < prior["first_choice"] <= 1
    data = json.loads(Reader((tmp_path / "a.html").read_text()).scripts[0])
    assert len(data["sections"]) == 1
    assert not data["sections"][0]["folded"]


def refused(answer, code, *parts):
    assert answer.returncode == code, answer.stderr
    assert answer.stdout == ""
    for part in parts:
        assert part in answer.stderr


def test_what_cannot_be_reported(database, tmp_path):
    target = tmp_path / "a.html"
    refused(report("--db", database), 2, "--html")
    refused(report("--db", database, "--html", target, "gem"), 2, 'no operator "gem"', "rms_norm")
    refused(report("--db", database, "--html", target, "gemm"), 1, "gemm", "rms_norm")
    refused(report("--db", database, "--html", target, "rms_norm", "rows=9"), 1, "rows=9")
    refused(report("--db", database, "--html", target, "rms_norm", "rows"), 2, "name=value")
    missing = tmp_path / "missing.db"
    refused(report("--db", missing, "--html", target), 1, "no database", str(missing))
    assert not missing.exists()
    empty = tmp_path / "empty.db"
    with cudadent.Runtime("host", cache=empty):
        pass
    refused(report("--db", empty, "--html", target), 1, "nothing to report", "cudadent-tune tune")
    assert not target.exists()


def test_output_that_cannot_be_written(database, page, tmp_path):
    refused(report("--db", database, "--html", tmp_path), 2, str(tmp_path), "folder")
    nowhere = tmp_path / "no" / "page.html"
    refused(report("--db", database, "--html", nowhere), 2, str(nowhere), "No such file")
    refused(report("--db", database, "--html", "/dev/full"), 1, "/dev/full", "No space left")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
def test_a_browser_draws_it_without_complaint(page, tmp_path):
    answer = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
            "--window-size=1200,12000",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"file://{page}#problem-2",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    complaints = [line for line in answer.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    reader = Reader(answer.stdout)
    tags = [tag for tag, _ in reader.elements]
    assert dict(reader.elements[0][1]).get("data-ready") == "true"
    assert "img" not in tags  # what looks like markup was shown as text
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in answer.stdout
    drawn = [a for tag, a in reader.elements if tag == "canvas" and int(a.get("width", 0)) > 300]
    assert len(drawn) >= 6
    opened = [a for tag, a in reader.elements if tag == "details" and "open" in a]
    assert len(opened) == 1  # the problem that the address names
