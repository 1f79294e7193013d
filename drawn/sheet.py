"""A contact sheet of drawn bins with their counts, for people."""

import io
import json

from PIL import Image, ImageDraw, ImageFont

from drawn.bins import GeneratedBin, draw_bins

COLUMNS = 6
TILE = 240  # pixels, a side
CAPTION = 26


def contact_sheet(count: int, seed: int = 0) -> Image.Image:
    """An RGB picture of the first `count` bins of `seed`; broken ones are shown as what is wrong with them."""
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for number, drawn in enumerate(draw_bins(count, seed)):
        left, top = number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION)
        photo = _photo(drawn)
        if photo is not None:
            sheet.paste(photo, (left + (TILE - photo.width) // 2, top + CAPTION + (TILE - photo.height) // 2))
        draw.text((left + 6, top + 2), _caption(drawn, photo), fill="black", font=font)
    return sheet


def _photo(drawn: GeneratedBin) -> Image.Image | None:
    try:
        photo = Image.open(io.BytesIO(drawn.jpeg or b""))
        photo.thumbnail((TILE - 8, TILE - 8))
    except OSError:
        return None
    return photo


def _caption(drawn: GeneratedBin, photo: Image.Image | None) -> str:
    if photo is None:
        return f"{drawn.image_id}: " + ("no image" if drawn.jpeg is None else "truncated JPEG")
    try:
        return f"{drawn.image_id}: {json.loads(drawn.metadata)['EXPECTED_QUANTITY']}"
    except json.JSONDecodeError:
        return f"{drawn.image_id}: invalid JSON"
