"""The commands of manifests/README.md: shell that can be copied, with targets, folders and names that there are."""

import re
import subprocess

import pytest

from pipeline.compile import Images
from pipeline.manifests import build
from pipeline.parameters import TABLE
from tests.manifests.conftest import MANIFESTS, OVERLAYS, built, of_kind, overlay

ROOT = MANIFESTS.parent
README = (MANIFESTS / "README.md").read_text()


def commands() -> list[str]:
    """What stands behind a $ in the blocks, with the lines that go on from it; the rest is what it prints."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif found and goes_on(found[-1]):
                found[-1] += "\n" + line
    return found


def goes_on(command: str) -> bool:
    loop = re.search(r"\bdo$", command.splitlines()[0]) and not command.endswith("done")
    return command.endswith("\\") or bool(loop)


def makefiles() -> str:
    return "".join(path.read_text() for path in [ROOT / "Makefile", *(ROOT / "make").glob("*.mk")])


def test_every_command_is_shell() -> None:
    assert len(commands()) > 12
    for command in commands():
        ended = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, ""), command


def test_every_target_and_variable_of_make_is_one_that_there_is() -> None:
    text = makefiles()
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z-]+)*:", text, re.MULTILINE)) | {"schedule", "submit"}
    targets |= set(re.findall(r"^([a-z-]+-)%:", text, re.MULTILINE))  # in a loop: make image-$name
    variables = set(re.findall(r"[A-Z_]{2,}", text)) | {name.upper() for name in TABLE}
    given = re.findall(r"\bmake ((?:[a-z-]+ )*[a-z-]+)((?: [A-Z_]+=\S*)*)", "\n".join([*commands(), README]))
    assert len(given) > 6
    for names, assignments in given:
        assert set(names.split()) <= targets, names
        assert set(re.findall(r"([A-Z_]+)=", assignments)) <= variables, assignments
    options = re.findall(r"`([A-Z_]+)(?:=[^`]*)?`", README.partition("| option | |")[2].partition("\n\n")[0])
    assert options
    assert set(options) <= variables


def test_every_folder_that_is_applied_builds() -> None:
    folders = re.findall(r"-k manifests/(\S+?)[`\s]", README)
    assert {"overlays/local", "inference-service"} <= set(folders)
    assert all(built(folder) for folder in folders)


def test_what_is_waited_for_and_asked_is_there() -> None:
    objects = overlay("local")
    text = "\n".join(commands())
    made = set(re.findall(r"create job (\S+)", text))
    assert set(re.findall(r"\bcronjob/(\S+)", text)) == set(of_kind(objects, "CronJob"))
    assert set(re.findall(r"\bjob/(\S+)", text)) <= set(of_kind(objects, "Job")) | made
    assert (
        set(re.findall(r"kubectl -n (bin-counter) ", README)) == {"bin-counter"} <= set(of_kind(objects, "Namespace"))
    )
    service = of_kind(objects, "Service")["bin-counter-store"]
    assert f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:" in README
    assert str(service["spec"]["ports"][0]["port"]) in README


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_written_with_the_images_of_a_registry(name: str) -> None:
    text = build(name, Images("registry.example/team", "v1"))
    images = re.findall(r"image: (\S+)", text)
    assert images
    for image in images:
        ours = re.fullmatch(r"registry\.example/team/bin-counter-[a-z-]+:v1", image)
        assert ours or image.rpartition(":")[0].endswith("chrislusf/seaweedfs"), image
