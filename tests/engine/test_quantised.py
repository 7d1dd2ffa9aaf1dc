"""Checkpoints whose experts are MXFP4, or whose matrices are FP8, speak as transformers' do."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Mxfp4Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

import tiny
from converted_cases import whole
from engine_cases import LOADS, Stages
from manyhands.codec.weight_blocks import dequantise, quantise
from manyhands.domain.weight_format import blocks_of
from manyhands.errors import NotServed
from manyhands.node.conversion import convert
from manyhands.store.checkpoint import Checkpoint

BLOCK = 8
"""Divides every side of the tiny model: transformers reads no others."""

TOKENS = [3 + (7 * i * i) % 150 for i in range(24)]


def written(folder, tensors, quantised):
    """Replace the weights and say in the config how they are stored."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": quantised}))
    return folder


def fp8_folder(folder, case):
    """The model with its matrices in FP8, and beside it with what transformers makes of them."""
    tiny.make(case, folder / "plain")
    tiny.make(case, folder)
    tensors, plain = {}, {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if weight.dim() < 2 or ".layers." not in name or name.endswith("mlp.gate.weight"):
            tensors[name] = plain[name] = weight
            continue
        rows, columns = (side // BLOCK for side in weight.shape)
        blocks = weight.view(rows, BLOCK, columns, BLOCK)
        factors = blocks.abs().amax((1, 3)) / 448
        bits = (blocks / factors[:, None, :, None]).to(torch.float8_e4m3fn)
        tensors[name] = bits.view(weight.shape)
        tensors[f"{name}_scale_inv"] = factors
        plain[name] = Fp8Dequantize(None)._dequantize_one(tensors[name], factors)
    save_file(plain, folder / "plain" / "model.safetensors", metadata={"format": "pt"})
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
    return written(folder, tensors, {**said, "weight_block_size": [BLOCK, BLOCK]})


def mxfp4_folder(folder, case):
    tiny.make(case, folder)
    tensors = load_file(folder / "model.safetensors")
    made = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, into, out = tensors.pop(name).shape
        sides = (experts, out, into // 32)
        blocks = torch.randint(0, 256, (*sides, 16), dtype=torch.uint8, generator=made)
        exponents = torch.randint(122, 125, sides, dtype=torch.uint8, generator=made)
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, exponents
    return written(folder, tensors, {"quant_method": "mxfp4"})


FORMS = {  # transformers reads FP8 by itself only with accelerate
    "deepseek_v3": (fp8_folder, "plain", None),
    "qwen3_moe": (fp8_folder, "plain", None),
    "gpt_oss": (mxfp4_folder, ".", Mxfp4Config(dequantize=True)),
}


@pytest.fixture(scope="module", params=FORMS)
def case(request, tmp_path_factory):
    """(folder, the scores transformers gives when it dequantises)."""
    make, beside, how = FORMS[request.param]
    folder = make(tmp_path_factory.mktemp("model"), request.param)
    options = {} if how is None else {"quantization_config": how}
    oracle = AutoModelForCausalLM.from_pretrained(
        folder / beside, dtype=torch.float32, attn_implementation="eager", **options
    ).eval()
    with torch.inference_mode():
        return folder, oracle(torch.tensor([TOKENS]), use_cache=False).logits[0].float().numpy()


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_a_quantised_checkpoint_speaks_as_transformers_does(case, load):
    folder, expected = case
    checkpoint = Checkpoint.open(folder)
    checkpoint.check()
    stages = Stages(load, checkpoint.spec, checkpoint.read, (3,))
    np.testing.assert_allclose(stages.forward(TOKENS), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_it_converts_to_the_blocks_of_the_numbers_it_stands_for(case, tmp_path, form):
    folder, _ = case
    source = Checkpoint.open(folder)
    told = []
    convert(source, form, tmp_path / form, told.append)
    assert sum(told) == source.stored_bytes(source.spec.span)
    made = Checkpoint.open(tmp_path / form)
    made.check()
    for old, new in zip(source.spec.layers, made.spec.layers, strict=True):
        for name, tensor in old.tensors.items():
            before, after = whole(tensor, source.read), whole(new.tensors[name], made.read)
            bits = {"int8": 8, "int4": 4}.get(blocks_of(new.tensors[name]))
            if bits is not None:
                rows = before.reshape(-1, before.shape[-1])
                before = dequantise(quantise(rows, bits)).reshape(before.shape)
            atol = 0 if bits or tensor.layout != "fp8_blocks" else 2**-8 * np.abs(before).max()
            np.testing.assert_allclose(after, before, rtol=0, atol=atol)
    stages = Stages(LOADS["torch"], made.spec, made.read, (3,))
    assert np.isfinite(stages.forward(TOKENS)).all()


def test_only_the_methods_a_family_knows_are_read(tmp_path):
    folder = tiny.make("gpt_oss", tmp_path)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for method in ("fp8", "gptq", None):
        file.write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
        with pytest.raises(
            NotServed, match=r"quantised.*plain bf16.*or files quantised with mxfp4"
        ):
            Checkpoint.open(folder)
