"""`make predict IMAGE=<photo or folder>`: what the running endpoint says, in words; JSON=1 for programs."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from components.core.errors import UserError, reported
from components.core.layout import MODEL_NAME
from components.core.photo_names import PHOTO_SUFFIXES
from components.core.posterior import RECOUNT_FROM
from components.core.validation import number
from pipeline.serve import check_port

_SECONDS = 60.0


def main() -> None:
    """Ask about each photo; the status is 1 where one was refused."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("--image", default="", help="a photo, or a folder of photos")
    parser.add_argument("--quantity", default="", help="the quantity on record")
    parser.add_argument("--json", default="", help="1: a JSON object a photo, as the endpoint answers")
    parser.add_argument("--port", default="8080", help="HTTP port of the endpoint on this machine")
    given = parser.parse_args()
    with reported():
        check_port("PORT", given.port)
        quantity = None if not given.quantity else int(number("QUANTITY", given.quantity, 0, 1e9, whole=True))
        if given.json not in ("", "0", "1"):
            raise UserError(f"JSON={given.json} cannot be used: it should be 0 or 1.")
        refused = 0
        photos = photos_of(given.image)
        width = max(len(name) for name, _ in photos)
        for name, path in photos:
            answer = ask(path, given.port, quantity)
            refused += "error" in answer
            if given.json == "1":
                print(json.dumps({"file": name, **answer}, ensure_ascii=False), flush=True)
            else:
                print(f"{name:{width}}  {in_words(answer, quantity)}", flush=True)
        if refused:
            sys.exit(1)


def photos_of(image: str) -> list[tuple[str, Path]]:
    """A photo, or those below a folder, with the names to show. Raises UserError for what is neither."""
    if not image:
        raise UserError("IMAGE is missing: make predict IMAGE=<a photo, or a folder of photos>.")
    path = Path(image)
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise UserError(f"IMAGE={image}: there is no such file or folder.")
    found = [one for one in sorted(path.rglob("*")) if one.suffix.lower() in PHOTO_SUFFIXES and one.is_file()]
    if not found:
        raise UserError(f"IMAGE={image}: the folder holds no photos ({', '.join(PHOTO_SUFFIXES)}).")
    return [(one.relative_to(path).as_posix(), one) for one in found]


def ask(path: Path, port: str, quantity: int | None) -> dict[str, Any]:
    """The endpoint's answer to a photo, or its error. Raises UserError where none listens, or something else does."""
    url = f"http://127.0.0.1:{port}/v1/models/{MODEL_NAME}:predict"
    try:
        data = path.read_bytes()
    except OSError as error:
        return {"error": f"it cannot be read ({error.strerror})"}
    try:
        with httpx.Client(trust_env=False, timeout=_SECONDS) as client:  # a proxy would not find this machine
            reply = client.post(
                url,
                content=data,
                params=None if quantity is None else {"recorded_quantity": quantity},
                headers={"Content-Type": "application/octet-stream"},
            )
            content = reply.json()
    except httpx.HTTPError as error:
        raise UserError(
            f"No endpoint answers on port {port} ({type(error).__name__}); start it with make serve."
        ) from error
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("predictions"), list):
        return dict(content["predictions"][0])
    if isinstance(content, dict) and "error" in content:
        return {"error": content["error"], "reason": content.get("reason", "")}
    raise UserError(f"What answers on port {port} is no endpoint of this project; is another program there?")


def in_words(answer: Mapping[str, Any], quantity: int | None = None) -> str:
    """An answer as a line for people: the count, or that the bin is likelier empty or fuller than what is counted."""
    if "error" in answer:
        return f"refused: {answer['error']}"
    return " · ".join([*_counted(answer), *([] if quantity is None else [_of_record(answer, quantity)])])


def _counted(answer: Mapping[str, Any]) -> Iterator[str]:
    scores, outside = answer["scores"], answer["out_of_range"]
    count, most = answer["count"], len(scores)
    share = (1 - (outside or 0)) * scores[count - 1]
    if outside is not None and outside > share:
        yield f"empty, or more than {most} items ({_percent(outside)})"
        yield f"else {_items(count)} ({_percent(share)})"
        return
    yield f"{_items(count)} ({_percent(share)})"
    yield f"expected {answer['expected_count']:.1f}"
    if outside is not None:
        yield f"empty or more than {most} {_percent(outside)}"


def _of_record(answer: Mapping[str, Any], quantity: int) -> str:
    most, wrong = len(answer["scores"]), answer.get("mismatch_probability")
    if wrong is None:
        if answer.get("photo_mismatch") is None:
            return f"whether the record of {_items(quantity)} is right cannot be told"
        share = _percent(answer["photo_mismatch"])
        return f"by the photo alone the record of {_items(quantity)} is wrong with {share}"
    told = f"by photo and recorded quantity it is wrong with {_percent(wrong)}"
    if wrong < RECOUNT_FROM:
        return f"agrees with the record: {told}"
    likeliest = f"more than {most}" if answer.get("likeliest_count") is None else answer["likeliest_count"]
    if likeliest == quantity:
        return f"recount: no count is likelier than the recorded {quantity}, but {told}"
    return f"recount: {likeliest} is likelier, {quantity} is recorded; {told}"


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.001 else f"{100 * share:.{1 if share < 0.0995 else 0}f} %"


if __name__ == "__main__":
    main()
