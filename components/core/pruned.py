"""How often clean-up has removed shards: what a cached download was made before is no longer to be relied upon."""

from typing import ClassVar

from components.core.layout import PRUNED_KEY
from components.core.store import ObjectMissing, Store, open_store
from components.core.stored import Stored


class Pruned(Stored):
    """Kept in the data bucket from the first removal on."""

    what: ClassVar[str] = "the record of removals"
    remedy: ClassVar[str] = "remove it, and the next run looks at every photo again"

    number: int = 0


def times_pruned(data_uri: str) -> str:
    """The number as an argument of steps: another number, and no result from before is taken for theirs."""
    return str(_read(open_store(data_uri)).number)


def count_removal(store: Store) -> None:
    """Raise the number. To be done before anything is removed, so that an interrupted removal counts as well."""
    before = _read(store)
    store.put(PRUNED_KEY, before.model_copy(update={"number": before.number + 1}).text().encode())


def _read(store: Store) -> Pruned:
    try:
        return Pruned.parse(store.get(PRUNED_KEY), f"{store.location}/{PRUNED_KEY}")
    except ObjectMissing:
        return Pruned()
