"""JSON documents that outlive the code that wrote them: how they say their form, and who can read it.

Every such document has a `format`, `major.minor`. A new field that readers may do without raises the minor part, and
readers of the same major ignore fields they do not know. Whatever an older reader would misunderstand raises the major
part, and readers refuse a major that is not theirs. What was written before there was a `format` is 1.0.
"""

import json
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import UserError
from components.core.files import write_whole
from components.core.validation import first_problem

FIRST_FORMAT = "1.0"


class Stored(BaseModel):
    """A document that is kept. A subclass that changes its form sets another default of `format`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    what: ClassVar[str]  # names the document in a sentence, as in "a shard index"
    remedy: ClassVar[str]  # what to do when it is missing or damaged, as in "run the download again"
    format: str = FIRST_FORMAT

    @classmethod
    def parse(cls, data: bytes, place: object) -> Self:
        """Read a document that lies at `place`.

        Raises UserError when it has a form that this code does not know, and when it is no such document at all.
        """
        try:
            found = json.loads(data)
            written = found.get("format", FIRST_FORMAT) if isinstance(found, dict) else FIRST_FORMAT
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} cannot be read as {cls.what} (it is not JSON); {cls.remedy}.") from error
        ours = cls.model_fields["format"].default
        if _major(written) != _major(ours):
            raise UserError(
                f"{place} is {cls.what} of format {written}, and this version reads format {_major(ours)}; "
                "use the version of bin-counter that wrote it, or a newer one."
            )
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            problem = first_problem(error)
            what = f"{problem.where or 'the whole file'}: {problem.message}"
            raise UserError(f"{place} cannot be read as {cls.what} ({what}); {cls.remedy}.") from error

    def text(self) -> str:
        """The document as it is kept."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file. Raises UserError as `parse` does, and when there is no such file."""
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError as error:
            raise UserError(f"There is no {cls.what.partition(' ')[2]} at {path}; {cls.remedy}.") from error
        return cls.parse(data, path)

    def write(self, path: str | Path) -> None:
        """Write it, whole or not at all, making its folder."""
        write_whole(path, self.text())


def _major(form: object) -> str:
    return str(form).partition(".")[0]
