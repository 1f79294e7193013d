"""`make runs`: one page with every run, whatever became of it, and whatever else lies where runs are kept."""

import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.files import folder_whole
from components.core.registry import Figures
from components.core.verdict import Verdict
from pipeline.parameters import Parameters, parse_parameters
from pipeline.run_record import RECORD, State, command_of, data_of, recorded
from pipeline.runs import show_runs, write_runs_page
from pipeline.runs_list import list_runs
from tests.small_model import write_small_bundle

ROOT = Path(__file__).parent.parent.parent
FIGURES = Figures(
    accuracy=0.4321,
    accuracy_ci95=(0.35, 0.52),
    baseline_accuracy=0.292,
    loss=1.2,
    rmse=1.07,
    within_one=0.88,
    n_test=130,
)


def finished(home: Path, parameters: Parameters, *, passed: bool = True) -> Path:
    with recorded(home, parameters) as run, folder_whole(run.folder) as fresh:
        verdict = Verdict(
            passed=passed,
            forced=False,
            reason="The gate's <b>reason</b>.",
            version="b" * 12,
            champion="",
            figures=FIGURES,
        )
        verdict.write(fresh / "verdict.json")
        write_small_bundle(fresh / "model")
        for page in ("report.html", "train.html", "rejects.csv"):
            (fresh / page).touch()
        run.end(State.DONE, folder=fresh)
    return run.folder


class Rows(HTMLParser):
    """The text and the links of each row of a page's table."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[list[str]] = []
        self.feed(page.read_text().partition("<tbody>")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.texts.append("")
            self.links.append([])
        if tag == "a":
            self.links[-1].append(str(dict(attrs)["href"]))

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] = " ".join([*self.texts[-1].split(), *data.split()])


def test_a_row_says_when_by_which_command_from_what_and_how_well_and_links_the_pages(tmp_path: Path) -> None:
    folder = finished(tmp_path, parse_parameters(["recipe=frozen", "SEED=3"]))
    rows = Rows(write_runs_page(tmp_path))
    [text] = rows.texts
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC took \d+ s", text)
    assert "make pipeline SEED=3 RECIPE=frozen" in text
    assert "drawn bins (seed 3), no real photos" in text
    assert "43.2 % 35.0 to 52.0 %, baseline 29.2 %" in text
    assert "judged on 130 bins within one 88.0% RMSE 1.07" in text
    assert "Deployed The gate's <b>reason</b>." in text
    assert "EPOCHS 0" in text
    assert rows.links == [[f"runs/{folder.name}/{page}" for page in ("train.html", "report.html", "rejects.csv")]]
    assert all((tmp_path / link).is_file() for link in rows.links[0])


def test_the_newest_run_is_the_first_and_every_end_is_told(tmp_path: Path) -> None:
    finished(tmp_path, Parameters(), passed=False)
    with pytest.raises(UserError), recorded(tmp_path, Parameters(seed=1)):
        raise UserError("WEIGHTS=x: there is no such file.")
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, Parameters(seed=2)):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), recorded(tmp_path, Parameters(seed=3)):
        raise ZeroDivisionError("by zero")
    with recorded(tmp_path, Parameters(seed=4)):
        texts = Rows(write_runs_page(tmp_path)).texts
    ends = ["Going on", "Failed Unexpectedly: ZeroDivisionError", "Interrupted", "Failed WEIGHTS=x", "Not deployed"]
    assert len(texts) == len(ends)
    assert all(end in text for end, text in zip(ends, texts, strict=True))


def test_more_than_ten_runs_of_one_second_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run_record.RUN_NAME", "20260101-000000")
    for seed in range(12):
        with recorded(tmp_path, Parameters(seed=seed)):
            pass
    seeds = [run.record.parameters["seed"] for run in list_runs(tmp_path) if run.record]
    assert seeds == list(range(11, -1, -1))


def test_a_run_that_was_killed_does_not_go_on_for_ever(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pipeline.parameters import Parameters;"
        "from pipeline.run_record import recorded\n"
        "with recorded(Path(sys.argv[1]), Parameters()): print('on', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert list_runs(tmp_path)[0].state == State.RUNNING
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list_runs(tmp_path)[0].state == State.INTERRUPTED
    assert "Killed, or the machine went down" in Rows(write_runs_page(tmp_path)).texts[0]


def test_results_that_are_whole_stay_results_when_ctrl_c_comes_after_them(tmp_path: Path) -> None:
    def told_too_late() -> None:
        with recorded(tmp_path, Parameters()) as run:
            run.end(State.DONE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told_too_late()
    assert list_runs(tmp_path)[0].state == State.DONE


def test_a_run_of_an_earlier_version_keeps_its_figures(tmp_path: Path) -> None:
    folder = finished(tmp_path, Parameters())
    (folder / RECORD).unlink()
    folder.rename(folder.with_name("20260102-030405"))
    [text] = Rows(write_runs_page(tmp_path)).texts
    assert text.startswith("2026-01-02 03:04 UTC")
    assert "not known: made before runs kept a record" in text
    assert "43.2 %" in text


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({RECORD: b"{"}, "run.json cannot be read as the record of a run (it is not JSON)."),
        ({RECORD: b'{"format": "9.0"}'}, "run.json is the record of a run of format 9.0"),
        ({"verdict.json": b"\xff\x00"}, "Unreadable verdict.json cannot be read as a verdict (it is not JSON)."),
        ({"verdict.json": None}, "Unreadable verdict.json is missing."),
        ({"model/model.json": b"[]"}, "model.json cannot be read as the description of a model"),
        ({"metrics.json": b"null"}, "metrics.json cannot be read: it has not the form that it should have."),
        ({RECORD: None, "verdict.json": None}, "Unreadable This folder is named like a run and holds neither"),
    ],
)
def test_a_damaged_run_is_a_row_with_the_reason(tmp_path: Path, damage: dict[str, bytes | None], told: str) -> None:
    folder = finished(tmp_path, Parameters())
    for name, content in damage.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
    finished(tmp_path, Parameters(seed=1))
    whole, damaged = Rows(write_runs_page(tmp_path)).texts
    assert "Deployed" in whole
    assert told in damaged
    assert str(tmp_path) not in damaged


def test_what_is_no_run_is_a_row_behind_the_runs(tmp_path: Path) -> None:
    finished(tmp_path, Parameters())
    runs = tmp_path / "runs"
    (runs / "my <notes>").mkdir()
    (runs / os.fsdecode(b"b\xffd")).mkdir()
    (runs / ".20260101-000000.0123").mkdir()
    (runs / "a file").touch()
    (runs / "a link").symlink_to("nowhere")
    (runs / "20269999-999999").mkdir()
    texts = Rows(write_runs_page(tmp_path)).texts
    assert len(texts) == 7
    assert sum("Deployed" in text for text in texts) == 1
    assert "my <notes> No run No run made this folder" in " ".join(texts)
    assert "What a run was writing when it was killed" in texts[-1]


def test_no_runs_yet_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "runs"],
        cwd=ROOT,
        env={**os.environ, "BIN_COUNTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == f"error: There are no runs in {tmp_path} yet; make one with `make pipeline`.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("screen", "opened"), [(True, 1), (False, 0)])
def test_the_page_opens_only_where_somebody_sits_before_a_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], screen: bool, opened: int
) -> None:
    pages: list[str] = []
    monkeypatch.setattr("webbrowser.open", pages.append)
    monkeypatch.setattr("sys.stdout.isatty", lambda: screen, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    finished(tmp_path, Parameters())
    show_runs(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'runs.html'}\n"
    assert pages == [(tmp_path / "runs.html").as_uri()] * opened


def test_the_link_of_a_runs_page_leads_to_all_runs_from_its_folder_and_from_latest(tmp_path: Path) -> None:
    folder = finished(tmp_path, Parameters())
    write_runs_page(tmp_path)
    # A browser goes by the address, in which latest/ is a folder beside runs/ and not a link into it.
    assert "<h1>Runs</h1>" in (tmp_path / "runs.html").read_text()
    assert 'url=../runs.html"' in (folder.parent / "runs.html").read_text()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "make pipeline"),
        (["epochs=3", "TUNE=true"], "make pipeline EPOCHS=3 TUNE=true"),
        (["SOURCE=s3://a bucket", 'OVERRIDES={"batch_size": 8}'],
         """make pipeline SOURCE='s3://a bucket' OVERRIDES='{"batch_size": 8}'"""),
    ],
)  # fmt: skip
def test_the_command_is_what_was_given_as_a_shell_takes_it(words: list[str], command: str) -> None:
    assert command_of(parse_parameters(words)) == command


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("generated", "drawn bins (seed 0), no real photos"),
        ("s3://aft-vbi-pds", "the public Amazon Bin Image Dataset, s3://aft-vbi-pds"),
        ("s3://bins", "the bucket s3://bins"),
        ("/bins", "the folder /bins"),
    ],
)
def test_the_data_are_told_in_words(source: str, told: str) -> None:
    assert data_of(Parameters(source=source)) == told
    assert data_of(Parameters(source=source, limit=5000)) == f"{told}, a sample of about 5,000 bins"


def test_a_folder_whose_name_is_no_text_is_recorded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / os.fsdecode(b"b\xffd")
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(UserError), recorded(tmp_path, Parameters(source="bins")):
        raise UserError(f"There is nothing in {odd}.")
    write_runs_page(tmp_path)
    [run] = list_runs(tmp_path)
    assert run.record is not None
    assert run.record.data == f"the folder {tmp_path}/b\\udcffd/bins"
    assert run.record.reason == f"There is nothing in {tmp_path}/b\\udcffd."
