"""Images built with buildah as root, and commands run in their root file systems as a cluster would run them."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SUITE = "bookworm"
LEFT_OUT_OF_SLIM = ("doc", "info", "linda", "lintian", "locale", "man")
BUILT = ("serve", "pipeline")  # the GPU images are tens of minutes and gigabytes


@dataclass(frozen=True)
class Image:
    """A built image: its unpacked root file system and its configuration."""

    name: str
    root: Path
    config: dict

    def megabytes(self) -> float:
        """Size of the unpacked files in units of 10^6 bytes."""
        listed = subprocess.run(["du", "-s", "--block-size=1", self.root], capture_output=True, text=True, check=True)
        megabytes = int(listed.stdout.split()[0]) / 1e6
        print(f"{self.name}: {megabytes:.0f} MB unpacked")
        return megabytes

    def command(self, *arguments: str, mounts: dict[Path, str] | None = None) -> list[str]:
        """A command line that runs the entry point as the image's user, the root file system read-only, /tmp writable.

        `mounts` are folders of this machine, by where they are in the image, read-only. The network is this machine's.
        """
        user = self.config["User"]
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
            exec chroot --userspec={user} {self.root} env -C /tmp -i "$@"
        """
        given = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("AWS_")]
        entry = [*environment, *given, *self.config["Entrypoint"], *arguments]
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script, "run", *entry]

    def run(self, *arguments: str, mounts: dict[Path, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """The command's end, with what it printed."""
        return subprocess.run(
            self.command(*arguments, mounts=mounts), capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture(scope="session")
def buildah(tmp_path_factory) -> Iterator[None]:
    """Buildah's environment, with a storage of its own that is gone afterwards."""
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"building images needs root, and {', '.join(missing) or 'nothing else'}")
    folder = tmp_path_factory.mktemp("containers")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    settings = {
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": "vfs",
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield
        subprocess.run(["buildah", "rm", "--all"], capture_output=True, check=False)
        subprocess.run(["buildah", "rmi", "--all", "--force"], capture_output=True, check=False)


@pytest.fixture(scope="session")
def base_image(buildah, tmp_path_factory) -> str:
    """A Debian made with debootstrap, with this machine's certificate authorities.

    Like debian:12-slim, the Dockerfile's own base, it comes without manuals and translations.
    """
    root = tmp_path_factory.mktemp("base")
    bootstrap = ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root)]
    subprocess.run(bootstrap, check=True, capture_output=True)
    for path in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")]:
        path.unlink()
    for name in LEFT_OUT_OF_SLIM:
        for path in (root / "usr/share" / name).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    container = buildah_says("from", "scratch")
    buildah_says("copy", "--quiet", container, str(root), "/")
    buildah_says("commit", "--quiet", container, "localhost/debian-base")
    buildah_says("rm", container)
    shutil.rmtree(root)
    return "localhost/debian-base"


def buildah_says(*arguments: str) -> str:
    ended = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@contextmanager
def image(name: str, base: str) -> Iterator[Image]:
    """Build an image the way `make images` does, and unpack it."""
    built = subprocess.run(
        ["make", f"image-{name}", "BUILDER=buildah", "TAG=test", f"BASE_IMAGE={base}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    reference = f"localhost/bin-counter-{name}:test"
    config = json.loads(buildah_says("inspect", "--type", "image", reference))["OCIv1"]["config"]
    container = buildah_says("from", reference)
    yield Image(name, Path(buildah_says("mount", container)), config)
    buildah_says("rm", container)


@pytest.fixture(scope="session")
def serve_image(base_image) -> Iterator[Image]:
    with image("serve", base_image) as built:
        yield built


@pytest.fixture(scope="session")
def pipeline_image(base_image) -> Iterator[Image]:
    with image("pipeline", base_image) as built:
        yield built
