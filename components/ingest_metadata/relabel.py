"""What people counted takes the place of what is on record."""

from dataclasses import dataclass, field, replace

from components.core.records import Record
from components.core.recounts import Labels, Recount


@dataclass(frozen=True)
class Changed:
    """A bin whose label is another than its record."""

    name: str
    recount: Recount


@dataclass
class Relabelling:
    """Gives records their labels, and keeps account of it."""

    labels: Labels
    used: int = 0
    outdated: int = 0  # the record is no longer the one that was recounted
    changed: list[Changed] = field(default_factory=list)

    def apply(self, record: Record) -> Record:
        """The record with what was counted. What its products weigh and measure is then not known."""
        recount = self.labels.find(record.image_id, record.file)
        if recount is None:
            return record
        if recount.recorded != record.quantity:
            self.outdated += 1
            return record
        self.used += 1
        if not recount.wrong:
            return record
        self.changed.append(Changed(record.file or record.image_id, recount))
        return replace(
            record,
            quantity=recount.counted,
            products=None,
            consistent=None if record.consistent is None else False,
            weight=None,
            volume=None,
            product_list="",
        )

    def told(self) -> str:
        """What was done, as a clause; "" where there are no labels."""
        number = len(self.labels.by_file)
        if not number:
            return ""
        others = {
            "of bins whose record is another by now": self.outdated,
            "of no bin that was read": number - self.used - self.outdated,
        }
        unused = ", ".join(f"{count:,} {why}" for why, count in others.items() if count > 0)
        said = f"{self.used:,} are labels, {len(self.changed):,} of them another count than the record's"
        return f"{said}; not used: {unused}" if unused else said
