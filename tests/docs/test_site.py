"""`scripts/docs`: the site, with every link and reference checked."""

import subprocess
import sys
from pathlib import Path

import chiron
from tests.docs.documents import ROOT


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    sphinx = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs"]
    done = subprocess.run(
        [*sphinx, ".", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "index.html").exists()
    reference = (tmp_path / "docs" / "api.html").read_text()
    missing = [name for name in chiron.__all__ if f'id="chiron.{name}"' not in reference]
    assert not missing
