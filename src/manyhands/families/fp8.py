"""Marks the matrices of a model whose files hold them as 8-bit floats with a factor a block.

As DeepSeek-V3 is published: every matrix of a block but routers and norms, a factor for each square
of 128. Computed with the numbers those stand for, never in 8 bits. Reads no files.
"""

from __future__ import annotations

from dataclasses import replace

from manyhands.domain.model_spec import BlockSpec, LayerSpec, ModelSpec, TensorSource
from manyhands.errors import CheckpointError, NotServed
from manyhands.families.values import Config, section, whole, word

_NEVER = ("router", "shared.scale")
"""Matrices that are no linear layers in transformers, or too small to quantise."""


def with_fp8(model: ModelSpec, config: Config) -> ModelSpec:
    """`model` as `quantization_config` says it is stored; unchanged without one.

    Raises NotServed for a form of FP8 that is not read, CheckpointError for absurd values.
    """
    values = section(config, "quantization_config")
    if not values:
        return model
    scheme, form = word(values, "activation_scheme", "dynamic"), word(values, "fmt", "e4m3")
    if scheme != "dynamic" or form != "e4m3":
        raise NotServed(
            f"fp8 weights of fmt {form!r} with activation_scheme {scheme!r} are not served; use "
            "the model's e4m3 files with dynamic activations, or its bf16 ones"
        )
    if word(values, "expert_dtype", "fp8") != "fp8":
        raise NotServed("expert_dtype other than fp8 is not served; use the model's bf16 files")
    block, kept = _block(values), _kept(values)
    layers = [_marked(layer, block, kept) for layer in model.layers]
    return replace(model, layers=tuple(layers))


def _block(values: Config) -> tuple[int, int]:
    sides = values.get("weight_block_size", (128, 128))
    if not isinstance(sides, (list, tuple)) or len(sides) != 2:
        raise NotServed(
            f"fp8 weights with weight_block_size {sides!r} are not served; blocks of two sides are"
        )
    key = "weight_block_size"
    return whole({key: sides[0]}, key), whole({key: sides[1]}, key)


def _kept(values: Config) -> tuple[str, ...]:
    """Names of modules that are not quantised."""
    names = values.get("modules_to_not_convert") or ()
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise CheckpointError("config: modules_to_not_convert must be a list of names")
    return tuple(names)


def _marked(layer: LayerSpec, block: tuple[int, int], kept: tuple[str, ...]) -> LayerSpec:
    if not isinstance(layer.part, BlockSpec):
        return layer
    tensors = {
        name: _quantised(source, block)
        if len(source.shape) > 1 and name not in _NEVER and not _is_kept(source.names[0], kept)
        else source
        for name, source in layer.tensors.items()
    }
    return LayerSpec(layer.part, tensors)


def _is_kept(name: str, kept: tuple[str, ...]) -> bool:
    """As transformers compares: the start or the end of a module's name."""
    module = name.removesuffix(".weight")
    return any(
        module == key or module.startswith(f"{key}.") or module.endswith(key) for key in kept
    )


def _quantised(source: TensorSource, block: tuple[int, int]) -> TensorSource:
    names = tuple(each for name in source.names for each in (name, f"{name}_scale_inv"))
    return replace(source, names=names, layout="fp8_blocks", block=block)
