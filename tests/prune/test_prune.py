"""Clean-up: what a version or a recent run refers to stays, the rest goes, and no cached result names what is gone."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.layout import INPUTS_PREFIX, SHARDS_PREFIX, STATE_PREFIX
from components.core.pruned import times_pruned
from components.core.registry import Registry
from components.core.shards import Shard, ShardIndex
from components.core.store import Store, open_store
from components.prune.__main__ import main
from components.prune.prune import find_folders, find_leftovers, find_runs, remove
from pipeline.local_store import RunningStore
from tests.small_model import write_small_bundle


class Place:
    """A data bucket and a registry of their own; the clock of the store can be set ahead."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data_uri = f"s3://bin-counter/{name}"
        self.store = open_store(self.data_uri)
        self.models_uri = f"s3://models/{name}"
        self.registry = Registry.open(self.models_uri)
        self.ahead = timedelta()
        clock = Store.now
        monkeypatch.setattr(Store, "now", lambda store: clock(store) + self.ahead)

    def index(self, *names: str) -> ShardIndex:
        shards = []
        for name in names:
            key = f"{SHARDS_PREFIX}{name}.tar"
            self.store.put(key, name.encode())
            shards.append(Shard(key=key, sha256=name, images=1, bytes=len(name)))
        return ShardIndex.of(self.data_uri, shards)

    def left_after(self, days: float) -> set[str]:
        remove(find_leftovers(self.store, self.registry, days), self.store)
        return {entry.key for entry in self.store.list()}


@pytest.fixture
def place(store_environment: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path.name, monkeypatch)


def test_nothing_that_was_used_lately_goes(place: Place) -> None:
    place.index("a", "b").note_use()
    place.store.put(f"{STATE_PREFIX}train/f/checkpoint.pt", b"half way")
    place.store.put(f"{INPUTS_PREFIX}d/list.json", b"{}")
    before = {entry.key for entry in place.store.list()}
    assert find_leftovers(place.store, place.registry, 30) == []
    assert place.left_after(30) == before


def test_what_nobody_refers_to_any_more_goes(place: Place) -> None:
    place.index("a").note_use()
    place.store.put(f"{STATE_PREFIX}train/f/checkpoint.pt", b"half way")
    place.store.put(f"{INPUTS_PREFIX}d/list.json", b"{}")
    place.store.put("somebody/elses", b"not ours to remove")
    place.ahead = timedelta(days=31)
    assert place.left_after(30) == {"somebody/elses", "pruned.json"}


def test_shards_of_a_version_stay_however_old_they_are(place: Place, tmp_path: Path) -> None:
    learned_from, other = place.index("a", "shared"), place.index("shared", "b")
    for index in (learned_from, other):
        index.note_use()
    bundle = write_small_bundle(tmp_path / "bundle", data_fingerprint=learned_from.digest)
    place.registry.publish(bundle.folder, [])
    place.ahead = timedelta(days=400)
    left = place.left_after(30)
    assert {key for key in left if key.startswith(SHARDS_PREFIX)} == {"shards/a.tar", "shards/shared.tar"}


def test_a_result_from_before_a_removal_of_shards_is_no_longer_taken_from_the_cache(place: Place) -> None:
    place.index("a").note_use()
    place.store.put(f"{STATE_PREFIX}train/f/checkpoint.pt", b"half way")
    before = times_pruned(place.data_uri)
    assert place.left_after(30)
    assert times_pruned(place.data_uri) == before
    place.ahead = timedelta(days=31)
    place.left_after(30)
    assert times_pruned(place.data_uri) != before


def test_what_belongs_together_goes_together_or_stays(place: Place) -> None:
    place.store.put(f"{STATE_PREFIX}ingest_metadata/f/part-1", b"1")
    place.store.put(f"{STATE_PREFIX}ingest_metadata/g/part-1", b"1")
    place.ahead = timedelta(days=31)
    leftovers = {each.name: each.keys for each in find_leftovers(place.store, place.registry, 30)}
    assert leftovers == {
        f"{STATE_PREFIX}ingest_metadata/{one}": [f"{STATE_PREFIX}ingest_metadata/{one}/part-1"] for one in "fg"
    }


@pytest.mark.parametrize("days", [0, 1.9, -3, float("nan")])
def test_what_runs_now_is_never_old(place: Place, days: float) -> None:
    with pytest.raises(UserError, match="give 2 or more"):
        find_leftovers(place.store, place.registry, days)


@pytest.mark.parametrize("days", ["abc", "-1", "1e9", "nan", ""])
def test_days_that_are_no_number_of_days_are_one_sentence(
    days: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prune", f"--days={days}", "--remove"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: DAYS={days} cannot be used: it should be a number from 2 to 36500.\n"


def test_a_remove_that_is_neither_0_nor_1_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prune", "--remove", "yes"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "error: REMOVE=yes cannot be used: it should be 0 or 1.\n"


def test_remove_is_what_make_and_the_cron_job_say(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.ahead = timedelta(days=31)
    uris = [f"--data-uri={place.data_uri}", f"--models-uri={place.models_uri}"]
    for words, said in (
        ([], "Would be removed"),
        (["--remove", "0"], "Would be removed"),
        (["--remove", "1"], "Removed:"),
    ):
        place.store.put(f"{STATE_PREFIX}ingest_metadata/f/part-1", b"1")
        monkeypatch.setattr("sys.argv", ["prune", *uris, *words])
        main()
        assert said in capsys.readouterr().out
    place.store.put(f"{STATE_PREFIX}ingest_metadata/f/part-1", b"1")
    monkeypatch.setenv("PRUNE_REMOVE", "1")
    monkeypatch.setattr("sys.argv", ["prune", *uris])
    main()
    assert "Removed:" in capsys.readouterr().out


def test_old_folders_of_this_machine_go_and_kfps_index_stays(place: Place, tmp_path: Path) -> None:
    for name in ("old", "new", "cache"):
        (tmp_path / "kfp" / name).mkdir(parents=True)
        (tmp_path / "kfp" / name / "file").write_bytes(b"12345")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "kfp" / "link").symlink_to(tmp_path / "elsewhere")
    long_ago = (datetime.now() - timedelta(days=40)).timestamp()
    for name in ("old", "cache", "link"):
        os.utime(tmp_path / "kfp" / name, (long_ago, long_ago), follow_symlinks=False)
    found = find_folders([tmp_path / "kfp", tmp_path / "absent"], 30)
    assert [(Path(each.name).name, each.size) for each in found][1:] == [("old", 5)]
    remove(found, place.store)
    assert sorted(path.name for path in (tmp_path / "kfp").iterdir()) == ["cache", "new"]
    assert (tmp_path / "elsewhere").is_dir()


def a_home(folder: Path, names: list[str], latest: str) -> Path:
    for name in names:
        (folder / "runs" / name).mkdir(parents=True)
    (folder / "latest").symlink_to(Path("runs") / latest)
    return folder


def kept(home: Path, keep: int) -> list[str]:
    old = {each.folder for each in find_runs(home, keep)}
    return sorted(run.name for run in (home / "runs").iterdir() if run not in old)


def test_results_of_the_newest_runs_stay(tmp_path: Path) -> None:
    names = [f"20240101-0000{number:02d}" for number in range(25)]
    assert kept(a_home(tmp_path, names, names[-1]), 20) == names[-20:]


def test_a_clock_that_was_ahead_costs_no_newer_run(tmp_path: Path) -> None:
    ahead = [f"29990101-0000{number:02d}" for number in range(20)]
    true = [f"20240101-0000{number:02d}" for number in range(3)]
    assert set(true) <= set(kept(a_home(tmp_path, [*ahead, *true], true[-1]), 20))


def test_what_latest_points_to_and_what_is_no_run_stay_whatever_their_age(tmp_path: Path) -> None:
    names = [f"20240101-0000{number:02d}" for number in range(5)]
    others = ["20240101-000000.77.new", "my notes"]
    assert kept(a_home(tmp_path, [*names, *others], names[0]), 2) == sorted([names[0], *others, *names[-2:]])


def test_results_go_only_where_runs_says_so(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["20200101-000000", "20200102-000000", "20200103-000000"]
    home = a_home(tmp_path, names, names[2])
    uris = [f"--data-uri={place.data_uri}", f"--models-uri={place.models_uri}", f"--home={home}"]
    for words, left in (["--remove", "1"], names), (["--runs=2"], names), (["--runs=2", "--remove", "1"], names[1:]):
        monkeypatch.setattr("sys.argv", ["prune", *uris, *words])
        main()
        assert sorted(run.name for run in (home / "runs").iterdir()) == left
    assert "results older than those of the newest 2 runs" in capsys.readouterr().out


@pytest.mark.parametrize("runs", ["0", "-1", "2.5", "all"])
def test_runs_that_are_no_number_of_runs_are_one_sentence(
    runs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prune", f"--runs={runs}", "--home=."])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == f"error: RUNS={runs} cannot be used: it should be a whole number from 1.\n"
