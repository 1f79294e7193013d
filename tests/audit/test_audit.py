"""An audit with a real model on photos whose counts it can tell."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.audit.audit import RECOUNT_COLUMNS, audit
from components.audit.rank import Terms, recount_list
from components.core.errors import UserError
from tests.small_model import photo, write_small_bundle

ROOT = Path(__file__).parent.parent.parent
WRONG = (3, 17, 33)


@pytest.fixture
def bins(tmp_path: Path) -> Path:
    """Forty photos of 1 to 5 items; three of their records are wrong, two photos and one record have no counterpart."""
    folder = tmp_path / "photos"
    (folder / "shelf").mkdir(parents=True)
    lines = ["file,quantity,bin,site"]
    for place in range(40):
        count = place % 5 + 1
        (folder / "shelf" / f"{place:03d}.jpg").write_bytes(photo(count, place))
        recorded = count % 5 + 1 if place in WRONG else count
        lines.append(f"{place:03d}.jpg,{recorded},B{place},{'north' if place % 2 else 'south'}")
    (folder / "alone.jpg").write_bytes(photo(2))
    (folder / "damaged.jpg").write_bytes(photo(2)[:200])
    lines += ["damaged.jpg,2,B90,north", "missing.jpg,1,B91,north"]
    (tmp_path / "records.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_small_bundle(tmp_path / "bundle", sharpness=0.02).folder


def listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "recount.csv").open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_wrong_records_come_first_and_everything_else_is_told(bins: Path, bundle: Path) -> None:
    found = audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=10), bins / "out")
    rows = listed(bins / "out")
    assert tuple(rows[0]) == RECOUNT_COLUMNS
    assert [row["why"] for row in rows] == ["ranked"] * 9 + ["random"]
    assert {row["file"] for row in rows[:9]} > {f"shelf/{place:03d}.jpg" for place in WRONG}
    assert re.fullmatch(r"(\d|more than the model counts) (is|are) likelier than the recorded \d", rows[0]["reason"])
    assert float(rows[-1]["chance"]) == pytest.approx(1 / (41 - 9), abs=1e-6)
    table = pd.read_parquet(bins / "out" / "audit.parquet")
    assert len(table) == 41
    assert "JPEG" in table.set_index("file")["unclear"]["damaged.jpg"]
    assert sorted(found.left_out) == [
        ("alone.jpg", "a photo that records.csv does not name"),
        ("missing.jpg", "there is no photo of this name"),
    ]
    page = (bins / "out" / "audit.html").read_text()
    assert "By site" in page
    assert "Photos that cannot tell" in page
    assert page.count("data:image/jpeg;base64,") == 9


def test_as_many_are_listed_as_pay(bins: Path, bundle: Path) -> None:
    terms = Terms(budget=None, recount_costs=1, wrong_record_costs=4)
    ranked = audit(bundle, str(bins / "photos"), bins / "records.csv", terms, bins / "out").listed.query(
        "why == 'ranked'"
    )
    assert (ranked["probability"] * 4 > 1).all()
    table = pd.read_parquet(bins / "out" / "audit.parquet")
    assert len(ranked) == (table["probability"] > 0.25).sum()


def test_another_list_from_the_same_photos_asks_the_model_nothing(bins: Path, bundle: Path) -> None:
    audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=10), bins / "out")
    [part] = (bins / "out" / "parts").glob("*/*.parquet")
    written = part.stat().st_mtime_ns
    audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=20), bins / "out")
    assert len(listed(bins / "out")) == 20
    assert part.stat().st_mtime_ns == written
    (bins / "photos" / "shelf" / "000.jpg").write_bytes(photo(5, 77))
    audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=20), bins / "out")
    assert not part.exists()


@pytest.mark.parametrize(
    ("budget", "bins_there", "ranked", "random"), [(10, 100, 9, 1), (200, 50, 45, 5), (1, 50, 0, 1), (25, 100, 22, 3)]
)
def test_a_tenth_of_the_budget_is_drawn_at_random_with_a_known_chance(
    budget: int, bins_there: int, ranked: int, random: int
) -> None:
    places = np.arange(bins_there)
    table = pd.DataFrame(
        {"file": places.astype(str), "probability": 1 / (places + 2), "value": 1.0, "recorded": 3, "likeliest": 3}
    )
    found = recount_list(table, Terms(budget=budget))
    assert found["why"].value_counts().to_dict() == {key: n for key, n in (("ranked", ranked), ("random", random)) if n}
    assert found["file"].is_unique
    assert found[found["why"] == "random"]["chance"].tolist() == pytest.approx(
        [random / (bins_there - ranked)] * random
    )


def test_over_many_seeds_every_bin_that_is_not_ranked_is_drawn_as_often_as_said() -> None:
    places = np.arange(60)
    table = pd.DataFrame(
        {"file": places.astype(str), "probability": 1 / (places + 2), "value": 1.0, "recorded": 3, "likeliest": 3}
    )
    drawn = [recount_list(table, Terms(budget=20, seed=seed)).query("why == 'random'")["file"] for seed in range(300)]
    times = pd.concat(drawn).value_counts().reindex(table["file"][18:]).fillna(0)
    assert times.mean() == pytest.approx(300 * 2 / 42)
    assert times.between(1, 30).all()  # four deviations of 14.3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "none"], "BUDGET=none cannot be used: it should be a whole number from 1."),
        (["--cost", "-1"], "COST=-1 cannot be used"),
        (["--error-rate", "2"], "ERROR_RATE=2 cannot be used"),
        (["--photos", "/nowhere"], "There is no folder /nowhere"),
    ],
)
def test_a_users_mistake_is_one_sentence(bins: Path, bundle: Path, words: list[str], said: str) -> None:
    ended = run(bins, bundle, *words)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (bins / "out").exists()


def test_a_model_without_a_model_of_records_and_a_table_of_other_photos_are_refused(bins: Path, tmp_path: Path) -> None:
    plain = write_small_bundle(tmp_path / "plain", out_of_range=False).folder
    with pytest.raises(UserError, match=r"knows nothing of records.*; train with RECIPE=finetune"):
        audit(plain, str(bins / "photos"), bins / "records.csv", Terms(), bins / "out")
    (bins / "others.csv").write_text("file,quantity\nx.jpg,3\n")
    knowing = write_small_bundle(tmp_path / "knowing").folder
    with pytest.raises(UserError, match="Not one of the 42 photos"):
        audit(knowing, str(bins / "photos"), bins / "others.csv", Terms(), bins / "out")


def test_records_of_one_photo_that_disagree_are_both_told_and_equal_ones_count_once(bins: Path, bundle: Path) -> None:
    (bins / "records.csv").write_text("file,quantity\n000.jpg,1\n001.jpg,2\n001.jpg,3\n001.jpg,2\n000.jpg,1\n")
    found = audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=5), bins / "out")
    assert found.bins["file"].tolist() == ["shelf/000.jpg"]
    told = [reason for name, reason in found.left_out if name == "001.jpg"]
    assert told == ["row 2 has this photo with another record", "another row has this photo with another record"]


def test_names_that_are_formulas_are_not_run_by_a_spreadsheet(bins: Path, bundle: Path) -> None:
    (bins / "photos" / "=cmd|x!A1.jpg").write_bytes(photo(5))
    (bins / "records.csv").write_text("file,quantity,bin\n=cmd|x!A1.jpg,1,@SUM(A1)\n")
    audit(bundle, str(bins / "photos"), bins / "records.csv", Terms(budget=5), bins / "out")
    [row] = listed(bins / "out")
    assert row["file"].startswith("'=")
    assert row["bin"] == "'@SUM(A1)"


@pytest.mark.slow
def test_killed_anywhere_and_run_again_it_writes_the_same(bins: Path, bundle: Path) -> None:
    for place in range(40, 1050):
        name = f"{place:04d}.jpg"
        shutil.copy(bins / "photos" / "shelf" / f"{place % 40:03d}.jpg", bins / "photos" / "shelf" / name)
        with (bins / "records.csv").open("a") as file:
            file.write(f"{name},3,,north\n")
    assert run(bins, bundle, out="whole").returncode == 0
    for seconds in (0.0, 0.3, 0.9):
        process = subprocess.Popen(command(bins, bundle, out="out"), cwd=ROOT, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not (bins / "out").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(bins, bundle, out="out").returncode == 0
    for name in ("audit.parquet", "recount.csv", "left_out.csv", "audit.html"):
        assert (bins / "out" / name).read_bytes() == (bins / "whole" / name).read_bytes(), name


def command(bins: Path, bundle: Path, *words: str, out: str = "out") -> list[str]:
    places = ["--bundle", str(bundle), "--photos", str(bins / "photos"), "--records", str(bins / "records.csv")]
    return [sys.executable, "-m", "components.audit", *places, "--out", str(bins / out), *words]


def run(bins: Path, bundle: Path, *words: str, out: str = "out") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(bins, bundle, *words, out=out), cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
