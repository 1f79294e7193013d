"""Shell of the step: python -m components.audit --help."""

import argparse
from pathlib import Path

from components.core.errors import reported


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m components.audit", description="Score every bin, and write the list of those to recount."
    )
    parser.add_argument("--bundle", type=Path, required=True, help="folder that train wrote")
    parser.add_argument("--photos", required=True, help="a folder of photos, or s3://bucket/prefix")
    parser.add_argument("--records", type=Path, required=True, help="a table of what is on record")
    parser.add_argument("--budget", default="", help="how many recounts; 200 unless costs are given")
    parser.add_argument("--cost", default="", help="what a recount costs, in any unit; 1")
    parser.add_argument("--value", default="", help="what a wrong record costs, in the same unit; 10")
    parser.add_argument("--error-rate", default="", help="share of records that are wrong; the model's own")
    parser.add_argument("--recounts", default="", help="s3:// bucket with what was recounted so far")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of random bins")
    parser.add_argument("--out", type=Path, default=Path("audit"), help="folder for what is written")
    given = parser.parse_args()
    with reported():
        from components.audit.audit import audit
        from components.audit.rank import Terms
        from components.audit.recounts import known
        from components.core.recounts import kept
        from components.core.store import open_store
        from components.core.validation import number

        costs = given.cost or given.value
        budget = number("BUDGET", given.budget, 1, 1e9, whole=True) if given.budget else (None if costs else 200)
        terms = Terms(
            budget=None if budget is None else int(budget),
            recount_costs=number("COST", given.cost or "1", 0, 1e12),
            wrong_record_costs=number("VALUE", given.value or "10", 0, 1e12),
            error_rate=number("ERROR_RATE", given.error_rate, 1e-6, 1 - 1e-6) if given.error_rate else None,
            seed=given.seed,
        )
        told = known(kept(open_store(given.recounts))) if given.recounts else None
        found = audit(given.bundle, given.photos, given.records, terms, given.out, told)
        ranked = found.listed[found.listed["why"] == "ranked"]
        print(
            f"{len(found.bins):,} bins judged, {len(found.left_out):,} photos and records left out.\n"
            f"{len(found.listed):,} to recount: {len(ranked):,} ranked, of which {ranked['probability'].sum():,.0f} "
            f"are expected to be wrong, and {len(found.listed) - len(ranked):,} at random.\n"
            f"Results in {given.out}: recount.csv, audit.html, audit.parquet, left_out.csv"
        )


if __name__ == "__main__":
    main()
