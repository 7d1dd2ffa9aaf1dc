"""The child that tries compiled kernels ends well with right ones and says which are wrong."""

import numpy as np
import pytest

from manyhands.engine.compiled import kernels_serve, new_crew

pytestmark = pytest.mark.skipif(not kernels_serve(), reason="numba is not installed")


@pytest.fixture
def child():
    from manyhands.engine import compiled_child

    return compiled_child


def test_right_kernels_end_well(child):
    assert child.main() == 0


@pytest.mark.parametrize("fault", ["one too far", "depends on the others"])
def test_wrong_attention_is_noticed(child, monkeypatch, capsys, fault):
    right = child.attend

    def wrong(queries, *others):
        out = right(queries, *others)
        if fault == "one too far":
            out[-1, -1, 0] += np.float32(2e-5)
        elif len(queries) > 1:
            out += np.float32(1e-7)
        return out

    monkeypatch.setattr(child, "attend", wrong)
    assert not child.attention_is_right(new_crew(1))
    assert child.main() == 1
    assert capsys.readouterr().out == "attention is not that of the reference\n"


def test_wrong_products_end_badly(child, monkeypatch, capsys):
    monkeypatch.setattr(child, "ReferenceProduct", lambda weights: lambda rows: rows)
    assert child.main() == 1
    assert capsys.readouterr().out == "products are not those of the reference\n"


def test_wrong_norms_end_badly(child, monkeypatch, capsys):
    right = child.numpy_math.norm
    monkeypatch.setattr(child.numpy_math, "norm", lambda *given: right(*given) + np.float32(1e-4))
    assert child.main() == 1
    assert capsys.readouterr().out == "norms or gates are not those of the reference\n"


def test_keys_and_values_kept_wrong_end_badly(child, monkeypatch, capsys):
    def unturned(*_):
        pass

    monkeypatch.setattr(child.numpy_math, "rotate", unturned)
    assert child.main() == 1
    assert capsys.readouterr().out == "kept keys and values are not those of the reference\n"
