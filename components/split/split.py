"""The step: from the records table to the splits table, three file lists, the leak check and the report."""

from pathlib import Path

from components.core.files import write_whole
from components.core.records import SUBSETS, read_records, write_splits
from components.split.divide import SplitOptions, divide
from components.split.file_lists import read_file_lists, write_file_lists
from components.split.leaks import LeakCheck, check_leaks
from components.split.report import write_report


def split(
    records_path: Path, options: SplitOptions, file_lists: str, splits_path: Path, lists_path: Path, report_path: Path
) -> LeakCheck:
    """Divide the records and write everything. Prints the sizes.

    `lists_path` becomes a folder: train.json, validation.json, test.json, left_out.csv and leaks.json.
    """
    given = read_file_lists(file_lists)
    division = divide(read_records(records_path), options, given)
    leaks = check_leaks(division.splits)
    write_file_lists(lists_path, division.splits)
    division.left_out.to_csv(lists_path / "left_out.csv", index=False)
    write_whole(lists_path / "leaks.json", leaks.model_dump_json(indent=1))
    write_report(report_path, division, leaks, options, given)
    write_splits(splits_path, division.splits)
    sizes = division.splits["subset"].value_counts()
    print(", ".join(f"{subset}: {int(sizes.get(subset, 0)):,}" for subset in SUBSETS))
    for reason, bins in division.left_out["reason"].value_counts().items():
        print(f"left out: {bins:,} ({reason})")
    if division.ranked:
        print("So few blocks or groups are ranked and dealt out, so that no subset is empty; new bins may move others.")
    if max(options.validation_share, options.test_share) >= 1:
        print(
            f"Numbers of bins were turned into shares: VALIDATION_SHARE={division.rule.validation_share:.6g} "
            f"TEST_SHARE={division.rule.test_share:.6g}; give these to keep every bin where it is while the data grows."
        )
    if not leaks.contents_known:
        print("The contents of the bins are not known: the split rests on blocks of neighbouring ids alone.")
    return leaks
