"""Images built with buildah as root, and commands run in their root file systems as a cluster would run them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SUITE = "bookworm"
BASE = "localhost/debian-base:12"
LEFT_OUT_OF_SLIM = ("info", "linda", "lintian", "locale", "man")
MACHINE_CERTIFICATES = Path("/usr/local/share/ca-certificates")
# Builds in the storage of the machine and leaves the layers there, which makes a second run a matter of minutes.
KEEP_LAYERS = bool(os.environ.get("BIN_COUNTER_KEEP_LAYERS"))


@dataclass(frozen=True)
class Image:
    """A built image: its unpacked root file system, its configuration, and its layers with their bytes."""

    name: str
    root: Path
    config: dict
    layers: dict[str, int]
    build_seconds: float

    def megabytes(self) -> float:
        """Size of the unpacked files in units of 10^6 bytes."""
        listed = subprocess.run(["du", "-s", "--block-size=1", self.root], capture_output=True, text=True, check=True)
        megabytes = int(listed.stdout.split()[0]) / 1e6
        print(f"{self.name}: {megabytes:.0f} MB unpacked")
        return megabytes

    def packages(self) -> set[str]:
        """The names in the folder of its Python packages."""
        return {path.name for path in self.root.glob("opt/bin-counter/lib/python3*/site-packages/*")}

    def command(
        self,
        *arguments: str,
        mounts: dict[Path, str] | None = None,
        user: str = "",
        network: bool = True,
        entry: list[str] | None = None,
    ) -> list[str]:
        """A command line that runs the entry point, the root file system read-only and /tmp writable.

        `mounts` are folders of this machine, by where they are in the image, read-only. `user` is the image's if not
        given. The network is this machine's; without, there is a loopback that is down.
        """
        environment = self.config["Env"]
        binds = " && ".join(
            f"mkdir -p {self.root}{inside} && mount --bind -o ro {outside} {self.root}{inside}"
            for outside, inside in (mounts or {}).items()
        )
        script = f"""
            set -e
            mount --make-rprivate /
            mount --bind {self.root} {self.root}
            {binds or "true"}
            mount -o remount,bind,ro {self.root}
            mount -t tmpfs tmpfs {self.root}/tmp
            mount -t proc proc {self.root}/proc
            mount --rbind /dev {self.root}/dev
            exec chroot --userspec={user or self.config["User"]} {self.root} env -C /tmp -i "$@"
        """
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("AWS_")]
        words = [*environment, *given, *(self.config["Entrypoint"] if entry is None else entry)]
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        return [*isolated, "bash", "-c", script, "run", *words, *(arguments or self.config["Cmd"])]

    def run(self, *arguments: str, seconds: int = 300, **how: Any) -> "subprocess.CompletedProcess[str]":
        """The command's end, with what it printed."""
        return subprocess.run(
            self.command(*arguments, **how), capture_output=True, text=True, check=False, timeout=seconds
        )

    def python(self, code: str, **how: Any) -> "subprocess.CompletedProcess[str]":
        """Run some Python as the image runs its modules."""
        return self.run("-c", code, entry=["python"], **how)


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Buildah's environment; its storage is one of its own and gone afterwards, unless layers are kept."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"building images needs root, and {', '.join(missing) or 'nothing else'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        if KEEP_LAYERS:
            yield
            return
        folder = tmp_path_factory.mktemp("containers")
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        yield
        subprocess.run(["buildah", "rm", "--all"], capture_output=True, check=False)
        subprocess.run(["buildah", "rmi", "--all", "--force"], capture_output=True, check=False)


@pytest.fixture(scope="session")
def base_image(buildah: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Debian made with debootstrap, with this machine's certificate authorities.

    Like debian:12-slim, the Dockerfile's own base, it comes without manuals and translations, but with the licences.
    """
    if KEEP_LAYERS and subprocess.run(["buildah", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return BASE
    root = tmp_path_factory.mktemp("base")
    bootstrap = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root)]
    subprocess.run(bootstrap, check=True, capture_output=True)
    apt = [*root.glob("var/cache/apt/*.bin"), *root.glob("var/cache/apt/archives/*.deb")]
    manuals = [path for path in root.glob("usr/share/doc/**/*") if path.name != "copyright" and not path.is_dir()]
    for path in [*apt, *root.glob("var/lib/apt/lists/*_*"), *manuals]:
        path.unlink()
    for name in LEFT_OUT_OF_SLIM:
        for path in (root / "usr/share" / name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    sources = (root / "etc/apt/sources.list").read_text()
    archive = sources.split()[1]
    updates = f"deb {archive} {SUITE}-updates main\ndeb {archive}-security {SUITE}-security main\n"
    (root / "etc/apt/sources.list").write_text(sources + updates)
    for certificate in MACHINE_CERTIFICATES.glob("*.crt"):
        copy = root / MACHINE_CERTIFICATES.relative_to("/") / certificate.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(certificate, copy)
    subprocess.run(["chroot", root, "update-ca-certificates"], check=True, capture_output=True)
    container = buildah_says("from", "scratch")
    buildah_says("copy", "--quiet", container, str(root), "/")
    buildah_says("commit", "--quiet", container, BASE)
    buildah_says("rm", container)
    shutil.rmtree(root)
    return BASE


def buildah_says(*arguments: str) -> str:
    ended = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def build(
    name: str, base: str, checkout: Path = ROOT, tag: str = "test", flags: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Build an image of a checkout the way `make images` does."""
    settings = ["BUILDER=buildah", f"TAG={tag}", f"BASE_IMAGE={base}", f"BUILD_FLAGS={flags}"]
    return subprocess.run(
        ["make", f"image-{name}", *settings], cwd=checkout, capture_output=True, text=True, check=False
    )


@contextmanager
def image(name: str, base: str, checkout: Path = ROOT, tag: str = "test") -> Iterator[Image]:
    """Build an image and unpack it."""
    start = time.perf_counter()
    built = build(name, base, checkout, tag)
    seconds = time.perf_counter() - start
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    reference = f"bin-counter-{name}:{tag}"
    described = json.loads(buildah_says("inspect", "--type", "image", reference))["OCIv1"]
    container = buildah_says("from", "--pull-never", reference)
    root = Path(buildah_says("mount", container))
    yield Image(name, root, described["config"], layers_of(described["rootfs"]["diff_ids"]), seconds)
    buildah_says("rm", container)
    if tag != "test":
        buildah_says("rmi", reference)


def layers_of(digests: list[str]) -> dict[str, int]:
    """The layers with their bytes, as the storage notes them; what is pushed is compressed and so less."""
    storage = Path(json.loads(buildah_says("info"))["store"]["GraphRoot"])
    known = json.loads((storage / "overlay-layers/layers.json").read_text())
    sizes = {layer["diff-digest"]: layer.get("diff-size", 0) for layer in known if "diff-digest" in layer}
    return {digest: sizes[digest] for digest in digests}


@pytest.fixture(scope="session")
def serve_image(base_image: str) -> Iterator[Image]:
    with image("serve", base_image) as built:
        yield built


@pytest.fixture(scope="session")
def pipeline_image(base_image: str) -> Iterator[Image]:
    with image("pipeline", base_image) as built:
        yield built


@pytest.fixture(scope="session")
def train_image(base_image: str) -> Iterator[Image]:
    with image("train", base_image) as built:
        yield built


@pytest.fixture
def any_image(request: pytest.FixtureRequest) -> Image:
    """The image that the test is parametrised with."""
    return request.getfixturevalue(f"{request.param}_image")
