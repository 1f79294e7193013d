"""Write the table of timm's models that doors without torch read: `python -m components.train.network.timm_models`."""

import csv
import io
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg

from components.core import backbones

TABLE = Path(backbones.__file__).with_name(backbones.TIMM_MODELS)


def as_csv() -> str:
    """The models of the installed timm: name, the fixed size of those that have one, tags of the weights."""
    tags: dict[str, list[str]] = {name: [] for name in timm.list_models()}
    for name in timm.list_models(pretrained=True):
        architecture, _, tag = name.partition(".")
        if tag:
            tags[architecture].append(tag)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "fixed_size", "weights"])
    for name in sorted(tags):
        config = get_pretrained_cfg(name)
        fixed = config.input_size[1] if config is not None and config.fixed_input_size else ""
        table.writerow([name, fixed, " ".join(tags[name])])
    return text.getvalue()


if __name__ == "__main__":
    TABLE.write_text(as_csv(), encoding="utf-8")
