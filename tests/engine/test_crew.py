"""Threads of a crew do every unit once, whoever is late; a forgotten crew's threads end."""

import gc
import threading
import time

import numpy as np
import pytest

from engine_cases import HAS_NUMBA
from manyhands.codec.panels import laid_out
from manyhands.codec.weight_blocks import quantise
from manyhands.engine.block_linear import CompiledProduct, ReferenceProduct
from manyhands.engine.compiled import new_crew
from ordinary import ordinary

pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("crew-")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_short_jobs_are_all_done_whole(threads):
    weights, rows = laid_out(quantise(ordinary(2048, 64), 8)), ordinary(3, 64)
    product = CompiledProduct(weights, new_crew(threads))
    expected = ReferenceProduct(weights)(rows)
    for _ in range(300):
        np.testing.assert_array_equal(product(rows), expected)


def test_helpers_that_sleep_are_woken_for_the_next_job():
    weights, rows = laid_out(quantise(ordinary(4096, 64), 8)), ordinary(1, 64)
    product = CompiledProduct(weights, new_crew(3))
    expected = ReferenceProduct(weights)(rows)
    for _ in range(3):
        time.sleep(0.05)  # far longer than they look for work
        np.testing.assert_array_equal(product(rows), expected)


def test_two_crews_in_two_threads_do_not_meet():
    weights, rows = laid_out(quantise(ordinary(512, 64), 4)), ordinary(9, 64)
    expected, wrong = ReferenceProduct(weights)(rows), []

    def work():
        product = CompiledProduct(weights, new_crew(2))
        wrong.extend(1 for _ in range(100) if not np.array_equal(product(rows), expected))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_forgotten_crews_helpers_end():
    before = len(helpers())
    crew = new_crew(4)
    assert len(helpers()) == before + 3
    del crew
    gc.collect()
    until_s = time.monotonic() + 20
    while len(helpers()) > before and time.monotonic() < until_s:
        time.sleep(0.01)
    assert len(helpers()) <= before
