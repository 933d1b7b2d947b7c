"""What `pannier new-adapter` writes is a distribution that installs, and whose tests pass."""

import subprocess
from pathlib import Path

from tests.packaging.wheels import install_suite, run


def test_a_new_adapter_is_certified_as_it_was_written(
    wheels: dict[str, Path], environment: Path, tmp_path: Path
) -> None:
    """Its author begins with something that works: every rule but the one it declares as a deviation is kept."""
    install_suite(environment, wheels)
    folder = tmp_path / "pannier-toy"

    run(environment.with_name("pannier"), "new-adapter", "toy", "--folder", folder)
    run("uv", "pip", "install", "--quiet", "--python", environment, folder)
    ran = subprocess.run(
        [environment, "-m", "pytest", "-q"], cwd=folder, stdout=subprocess.PIPE, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout
