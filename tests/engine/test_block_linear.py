"""Compiled products have the reference's bits at every number of rows, on any processor."""

import os
import subprocess
import sys

import numpy as np
import pytest

from engine_cases import HAS_NUMBA
from manyhands.codec.panels import laid_out
from manyhands.codec.weight_blocks import dequantise, quantise
from manyhands.engine.block_linear import CompiledProduct, ReferenceProduct
from manyhands.engine.compiled import CHILD, new_crew
from ordinary import ordinary

SHAPES = [(16, 32), (40, 96), (100, 70), (257, 33)]
BESIDE = (0, 1, 7, 31, 511)


@pytest.fixture(params=["compiled", "numpy"])
def make(request):
    """A function weights -> product."""
    if request.param == "numpy":
        return lambda weights: ReferenceProduct(laid_out(weights))
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    crew = new_crew(2)
    return lambda weights: CompiledProduct(laid_out(weights), crew)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_form_gives_the_same_bits_as_the_reference(make, bits, shape):
    weights = quantise(ordinary(*shape), bits)
    product, reference = make(weights), ReferenceProduct(laid_out(weights))
    rows = ordinary(40, shape[1], seed=1)
    rows[5, 3], rows[6] = np.nan, 0
    expected = reference(rows)
    for count in (1, 2, 3, 4, 5, 8, 40):
        np.testing.assert_array_equal(product(rows[:count]), expected[:count])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(48, 64), (33, 4096)])
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(make, bits, shape):
    product = make(quantise(ordinary(*shape), bits))
    rows = ordinary(512, shape[1], seed=2)
    alone = product(rows[:1])[0]
    for others in BESIDE:
        for place in {0, others // 2, others}:
            some = np.roll(rows[: others + 1], place, axis=0)
            np.testing.assert_array_equal(product(some)[place].view(np.int32), alone.view(np.int32))


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_that_lie_apart_or_may_not_be_written_are_taken(make, bits):
    product = make(quantise(ordinary(20, 64), bits))
    wide = ordinary(6, 128)
    apart = wide[::2, :64]
    apart.flags.writeable = False
    np.testing.assert_array_equal(product(apart), product(apart.copy()))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_table_gives_the_rows_it_was_made_of(make, bits, shape):
    weights = quantise(ordinary(*shape), bits)
    places = np.array([0, 3, shape[0] - 1, 3])
    np.testing.assert_array_equal(make(weights).rows_at(places), dequantise(weights)[places])


def test_memory_is_what_the_format_says():
    if not HAS_NUMBA:
        pytest.skip("numba is not installed")
    crew = new_crew(1)
    for bits, of_one in ((8, 1 + 2 / 32), (4, 0.5 + 2 / 32)):
        product = CompiledProduct(laid_out(quantise(ordinary(64, 256), bits)), crew)
        assert product.bytes_held == of_one * 64 * 256


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "features",
    ["+avx2,+fma,+avxvnni", "+avx2,+fma", "+sse4.2"],
)
def test_kernels_for_older_processors_have_the_same_bits(features, tmp_path):
    pytest.importorskip("numba")
    here = subprocess.run(
        [sys.executable, "-c", "from llvmlite import binding as b; f = b.get_host_cpu_features();"
         "print(*[n for n, has in f.items() if has])"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    if not {name.lstrip("+") for name in features.split(",")} <= set(here):
        pytest.skip("this processor does not have them")
    limited = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features}
    environment = {**os.environ, **limited, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(CHILD, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
