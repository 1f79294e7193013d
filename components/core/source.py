"""Where bins come from: a bucket in the dataset's layout, a table, or both together."""

from dataclasses import dataclass

from components.core.errors import UserError

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".json", ".json.gz")


@dataclass(frozen=True)
class Source:
    """`metadata` is a bucket's address or a table's path or address; `photos` is a bucket's address, or empty."""

    metadata: str
    photos: str

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read `s3://bucket`, a table, or `s3://bucket#table`: the photos of the one, the quantities of the other."""
        photos, joined, metadata = text.partition("#")
        if joined:
            return cls(metadata, photos)
        return cls(text, "" if is_table(text) else text)

    def photo_bucket(self) -> str:
        """Address of the bucket that holds the photos. Raises UserError when there is none."""
        if not self.photos:
            raise UserError(
                f"{self.metadata} is a table and holds no photos; write SOURCE=s3://bucket#{self.metadata}."
            )
        return self.photos


def is_table(text: str) -> bool:
    """Whether a source names a table rather than a bucket."""
    return text.lower().endswith(TABLE_SUFFIXES)
