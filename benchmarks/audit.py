"""An audit of drawn bins against what they hold: wrong records found, speed, kills, rounds. `make bench-audit`.

    python -m benchmarks.audit --model .local/latest/model            six minutes on 2 idle cores
    python -m benchmarks.audit --model … list                         one part: list, speed, kills, rounds

Bins are drawn with 5 % of their records wrong, and audited as a user would. Written to results/audit.json and
results/audit.md.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from benchmarks.machine import machine
from benchmarks.tables import RESULTS, markdown_table, told, write_results
from components.audit.audit import audit
from components.audit.photos import PhotoFile, Photos, photos_at
from components.audit.rank import Terms
from components.audit.recounts import estimate, known, read_recounts
from components.audit.score import score
from components.core.bundle import Bundle, bundle_version, read_bundle
from components.core.image_file import ImageRejected, read_image_file
from components.core.pixels import squash
from components.core.recounts import Recount
from components.core.runtime import open_runtime
from drawn.records import write_audit

BINS, SEED, BUDGET = 1000, 1, 100  # as in `make drawn-audit` and in README
WAREHOUSE, WAREHOUSE_SEED, ROUNDS, OF_A_ROUND = 10_000, 3, 5, 300
TIMES, KILLS, BATCH = 3, 10, 32
COMPARED = ("audit.parquet", "recount.csv", "left_out.csv", "audit.html")


class Row(BaseModel):
    """What was measured, the result in words, the goal, and whether it was met (None: there is none)."""

    what: str
    result: str
    goal: str = ""
    met: bool | None = None


class Results(BaseModel):
    """All rows by part, with where and when they were measured, and the model that judged."""

    machine: str
    day: str
    model_version: str
    parts: dict[str, list[Row]]


def first_list(model: Path, folder: Path) -> list[Row]:
    """The list of README: how many of the wrong records its recounts find."""
    write_audit(folder / "bins", BINS, SEED)
    _audited(model, folder / "bins", folder / "out", BUDGET)
    known = _wrong(folder / "bins")
    found: dict[str, list[bool]] = {"ranked": [], "random": []}
    for row in _rows(folder / "out" / "recount.csv"):
        found[row["why"]].append(row["file"] in known)
    wrong, bins = len(known), len(list((folder / "bins" / "photos").iterdir()))
    return [
        Row(
            what=f"wrong records among the {len(listed)} {why} recounts of {bins:,} bins, {wrong} of them wrong",
            result=f"{sum(listed)}, in any order {wrong * len(listed) / bins:.1f}",
        )
        for why, listed in found.items()
    ]


def speed(model: Path, folder: Path) -> list[Row]:
    """Photos a second against a loop that only decodes and asks, in turn."""
    write_audit(folder / "bins", BINS, SEED)
    bundle, photos = read_bundle(model), photos_at(str(folder / "bins" / "photos"))
    files = photos.listed()
    rates: dict[str, list[float]] = {"audit": [], "bare": []}
    for number in range(TIMES):
        rates["audit"].append(_rate(lambda: score(bundle, photos, files, folder / f"parts-{number}"), files))  # noqa: B023
        rates["bare"].append(_rate(lambda: _bare(bundle, photos, files), files))
    ours, bare = (statistics.median(rates[name]) for name in ("audit", "bare"))
    return [
        Row(
            what="photos a second on all cores, against a loop that decodes and asks in batches",
            result=f"{ours:.0f}/s against {bare:.0f}/s: {ours / bare:.2f}",
            goal="at least 0.9",
            met=ours / bare >= 0.9,
        )
    ]


def _bare(bundle: Bundle, photos: Photos, files: Sequence[PhotoFile]) -> None:
    runtime, size = open_runtime(bundle), bundle.info.image_size

    def pixels(file: PhotoFile) -> np.ndarray | None:
        try:
            return squash(read_image_file(photos.read(file.name)), size)
        except ImageRejected:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), BATCH):
            read = [one for one in pool.map(pixels, files[start : start + BATCH]) if one is not None]
            runtime.predict(np.stack(read))


def _rate(work: Callable[[], object], files: Sequence[PhotoFile]) -> float:
    start = time.perf_counter()
    work()
    return len(files) / (time.perf_counter() - start)


def kills(model: Path, folder: Path) -> list[Row]:
    """An audit that is killed again and again at random moments, against one that is left alone."""
    write_audit(folder / "bins", WAREHOUSE // 2, WAREHOUSE_SEED)
    start = time.monotonic()
    _audited(model, folder / "bins", folder / "quiet", OF_A_ROUND)
    seconds = time.monotonic() - start
    random, killed = np.random.default_rng(0), 0
    for _ in range(KILLS):
        process = subprocess.Popen(_command(model, folder / "bins", folder / "killed", OF_A_ROUND))
        try:
            process.wait(random.uniform(0.1, 0.5) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    _audited(model, folder / "bins", folder / "killed", OF_A_ROUND)
    same = [name for name in COMPARED if _bytes(folder / "quiet" / name) == _bytes(folder / "killed" / name)]
    return [
        Row(
            what=f"files that are the same after {killed} kills at random moments of {KILLS} attempts",
            result=", ".join(same),
            goal="all four",
            met=len(same) == len(COMPARED),
        )
    ]


def rounds(model: Path, folder: Path) -> list[Row]:
    """A warehouse: what each round recounts is put right, and tells the next how often records are wrong."""
    bins = folder / "bins"
    write_audit(bins, WAREHOUSE, WAREHOUSE_SEED)
    wrong, counts = _wrong(bins), _truth(bins)
    at_first, by_chance = len(wrong), 0.0
    lists: list[list[Recount]] = []
    inside = 0
    for number in range(ROUNDS):
        terms = Terms(budget=OF_A_ROUND, seed=number)
        truly = len(wrong) / len(counts)
        audited = audit(model, str(bins / "photos"), bins / "records.json", terms, folder / "out", known(lists))
        listed = set(audited.listed["file"])
        by_chance += len(wrong) * len(listed) / len(audited.bins)
        path = _filled(folder / "out" / "recount.csv", counts)
        lists.append(read_recounts(path)[0])
        said = estimate(lists[-1:])
        inside += said is not None and said.interval[0] <= truly <= said.interval[1]
        wrong -= listed
        _put_right(bins / "records.json", {file: int(counts[file]) for file in listed})
    found = at_first - len(wrong)
    return [
        Row(
            what=f"wrong records found in {ROUNDS} rounds of {OF_A_ROUND} recounts; {at_first} of {len(counts):,} are",
            result=f"{found}, by recounts in any order {by_chance:.0f}: {found / by_chance:.1f} times",
            goal="at least 2 times",
            met=found / by_chance >= 2,
        ),
        Row(
            what="rounds whose interval for the share of wrong records holds the true one",
            result=f"{inside} of {ROUNDS}",
        ),
    ]


def _command(model: Path, bins: Path, out: Path, budget: int) -> list[str]:
    places = [f"--photos={bins / 'photos'}", f"--records={bins / 'records.json'}", f"--out={out}"]
    return [sys.executable, "-m", "components.audit", f"--bundle={model}", f"--budget={budget}", *places]


def _audited(model: Path, bins: Path, out: Path, budget: int) -> None:
    """Raises SystemExit when the audit fails."""
    if subprocess.run(_command(model, bins, out, budget), check=False).returncode:
        raise SystemExit("error: the audit failed")


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _truth(bins: Path) -> dict[str, str]:
    return {row["file"]: row["holds"] for row in _rows(bins / "truth.csv")}


def _wrong(bins: Path) -> set[str]:
    return {row["file"] for row in _rows(bins / "truth.csv") if row["wrong"] == "1"}


def _filled(path: Path, counts: dict[str, str]) -> Path:
    """The list with what the bins hold in its column for it."""
    rows = _rows(path)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows({**row, "counted": counts[row["file"]]} for row in rows)
    return path


def _put_right(path: Path, counted: dict[str, int]) -> None:
    """Records of what was counted: the quantity that was found, of products that nobody noted."""
    records = json.loads(path.read_text())
    mended = [
        {"file": one["file"], "quantity": counted[one["file"]]} if one["file"] in counted else one for one in records
    ]
    path.write_text(json.dumps(mended))


PARTS = {"list": first_list, "speed": speed, "kills": kills, "rounds": rounds}


def table(results: Results) -> list[str]:
    """The results for people, in Markdown."""
    rows = [(one.what, one.result, one.goal, told(one.met)) for name in PARTS for one in results.parts.get(name, [])]
    return [
        "# Audits of drawn bins",
        "",
        f"`make bench-audit`, {results.machine}, {results.day}, version {results.model_version}.",
        "",
        *markdown_table(("what", "result", "goal", ""), rows),
    ]


def main() -> None:
    """Measure and write, each part as soon as it is there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--model", type=Path, default=Path(".local/latest/model"), help="folder of a bundle")
    given = parser.parse_args()
    path, version = RESULTS / "audit.json", bundle_version(given.model)
    known = Results.model_validate_json(path.read_text()) if path.exists() else None
    parts = known.parts if known is not None and known.model_version == version else {}
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            parts = parts | {name: PARTS[name](given.model, Path(folder))}
        results = Results(machine=machine(), day=date.today().isoformat(), model_version=version, parts=parts)
        write_results("audit", results.model_dump(mode="json"), table(results))


if __name__ == "__main__":
    main()
