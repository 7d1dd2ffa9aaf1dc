"""What transformers makes of texts and images, and images as our engines want them."""

from __future__ import annotations

import numpy as np
import torch


def tokens(count, seed=0):
    return [3 + (7 * i * i + 31 * seed) % 150 for i in range(count)]


def text_inputs(oracle, texts, side):
    """A padded batch. BERT counts positions from the left edge, so with left padding it is told."""
    longest, pad = max(map(len, texts)), oracle.config.pad_token_id
    ids, mask, places = [], [], []
    for text in texts:
        gap = [0] * (longest - len(text))
        row, seen, at = [pad] * len(gap), [1] * len(text), list(range(len(text)))
        ids.append(row + text if side == "left" else text + row)
        mask.append(gap + seen if side == "left" else seen + gap)
        places.append(gap + at if side == "left" else at + gap)
    given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    if oracle.config.model_type in ("bert", "electra", "distilbert") and side == "left":
        given["position_ids"] = torch.tensor(places)
    return given


def of_texts(oracle, texts, side="right"):
    """(hidden states of each text, class scores or None), cut out of one padded batch."""
    given = text_inputs(oracle, texts, side)
    with torch.inference_mode():
        bare = oracle.base_model
        hidden = bare(**given).last_hidden_state
        classes = oracle(**given).logits if "Classification" in type(oracle).__name__ else None
    kept = [h[m.bool()].numpy() for h, m in zip(hidden, given["attention_mask"], strict=True)]
    return kept, classes


def of_images(oracle, pixels):
    pixels = torch.from_numpy(pixels)
    with torch.inference_mode():
        if oracle.config.model_type == "siglip":
            return list(oracle.vision_model(pixels).last_hidden_state.numpy()), None
        hidden = oracle.base_model(pixels).last_hidden_state.numpy()
        is_classifier = "Classification" in type(oracle).__name__
        return list(hidden), oracle(pixels).logits if is_classifier else None


def images(patches, count, seed=5):
    shape = (count, patches.channels, patches.height, patches.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()


def squares(pixels, patches):
    """As `Chunk.hidden` wants an image: torch's own way of cutting, not ours."""
    cut = torch.nn.functional.unfold(
        torch.from_numpy(pixels)[None], patches.kernel, stride=patches.kernel
    )
    return np.ascontiguousarray(cut[0].T.numpy())
