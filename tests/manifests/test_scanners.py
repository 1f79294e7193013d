"""hadolint and checkov: no finding that is not fixed, or explained beside the object."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.conftest import FOLDERS, MANIFESTS

ROOT = MANIFESTS.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"


def test_hadolint_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    if not CHECKOV.is_file():
        subprocess.run(["make", "--silent", ".venv-checkov/ready"], cwd=ROOT, capture_output=True, check=False)
    if not CHECKOV.is_file():
        pytest.skip("checkov cannot be installed here; `make checkov` says why")
    folder = tmp_path_factory.mktemp("checkov")
    kubectl = Path(sys.executable).with_name("kubectl")
    for name in FOLDERS:
        built = subprocess.run([kubectl, "kustomize", MANIFESTS / name], capture_output=True, check=True).stdout
        (folder / f"{name.replace('/', '-')}.yaml").write_bytes(built)
    (folder / "Dockerfile").write_bytes(DOCKERFILE.read_bytes())
    ended = subprocess.run(
        [
            CHECKOV,
            "-d",
            folder,
            "--framework",
            "kubernetes",
            "dockerfile",
            "--skip-download",
            "--compact",
            "-o",
            "json",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
        check=False,
    )
    return {one["check_type"]: one for one in json.loads(ended.stdout)}


@pytest.mark.parametrize("kind", ["kubernetes", "dockerfile"])
def test_checkov_has_no_finding_that_is_not_explained(findings: dict[str, Any], kind: str) -> None:
    failed = {
        f"{one['check_id']} {one['resource']}: {one['check_name']}"
        for one in findings[kind]["results"]["failed_checks"]
    }
    assert failed == set()
    assert findings[kind]["summary"]["parsing_errors"] == 0
    assert findings[kind]["summary"]["passed"] > 100


def test_every_explanation_is_one(findings: dict[str, Any]) -> None:
    skipped = [one for kind in findings.values() for one in kind["results"]["skipped_checks"]]
    assert skipped
    assert all(len(one["check_result"]["suppress_comment"]) > 30 for one in skipped)
