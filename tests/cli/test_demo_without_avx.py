"""The demo on a processor of 2008, without AVX, as qemu plays it: three processes, one killed."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

QEMU = shutil.which("qemu-x86_64")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (Debian's qemu-user)"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="plays an older x86 on an x86"),
]


@pytest.fixture
def old_python(tmp_path):
    """Words that start this interpreter on that processor, and the environment for them.

    Its children are started by `sys.executable`, which is the wrapper there too.
    """
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {QEMU} -cpu Nehalem {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.executable = {str(wrapper)!r}\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("OPENBLAS_CORETYPE", None)  # what is best for this machine is not for that one
    return (str(wrapper),), environment


def test_it_has_no_avx(old_python):
    words, environment = old_python
    asked = "import numpy; print(numpy._core._multiarray_umath.__cpu_features__['AVX'])"
    told = subprocess.run(
        [*words, "-c", asked], env=environment, capture_output=True, text=True, check=False
    )
    assert (told.stdout.strip(), told.returncode) == ("False", 0), told.stderr[-2000:]


def test_the_demo_survives_its_kill_and_tells_the_same_story(old_python):
    words, environment = old_python
    told = subprocess.run(
        [*words, "-m", "manyhands.cli.app", "demo", "--at", "20", "--max-tokens", "50"],
        env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    assert "killed after 20 of" in told.stdout
    assert "identical to an undisturbed run: yes" in told.stdout
