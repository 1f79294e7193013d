"""Write what an image is made of: bill.py PYTHON-BILL FOLDER.

PYTHON-BILL is the CycloneDX file that cyclonedx-py wrote of the image's environment. FOLDER gets
`bom.cdx.json`, the same with Debian's packages added, and `THIRD-PARTY.txt`: every part with its licence, and where the
licence's text lies.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

DPKG_FIELDS = "${Package}\t${Version}\t${Architecture}\n"


def debian_component(name: str, version: str, architecture: str) -> dict:
    """A Debian package as CycloneDX describes it."""
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"name": f"see /usr/share/doc/{name}/copyright"}}],
    }


def licence(component: dict) -> str:
    """The licences of a component in one line."""
    named = [choice.get("license", choice) for choice in component.get("licenses", [])]
    return ", ".join(one.get("id") or one.get("name") or one["expression"] for one in named) or "not stated"


def main() -> None:
    """Write both files."""
    bill = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    python = sorted(bill["components"], key=lambda component: component["name"].lower())
    texts = {}
    for path in sorted(Path("/opt/bin-counter/lib").glob("python3*/site-packages/*.dist-info")):
        names = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "licenses/**/*")
        name = path.name.partition("-")[0].lower().replace("_", "-")
        texts[name] = sorted(str(text) for pattern in names for text in path.glob(pattern) if text.is_file())
    query = ["dpkg-query", "--show", "--showformat", DPKG_FIELDS]
    listed = subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True)
    debian = [debian_component(*line.split("\t")) for line in listed.stdout.splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    bill["components"] = [*python, *debian]
    (folder / "bom.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True))
    with (folder / "THIRD-PARTY.txt").open("w") as out:
        for component in bill["components"]:
            print(f"{component['name']} {component['version']}: {licence(component)}", file=out)
            for text in texts.get(component["name"].lower().replace("_", "-").replace(".", "-"), []):
                print(f"    {text}", file=out)


if __name__ == "__main__":
    main()
