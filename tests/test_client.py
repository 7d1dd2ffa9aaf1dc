"""The Python face on real engines: transformers == one peer == three peers, also after a loss."""

import asyncio

import numpy as np
import pytest
import torch

import manyhands as mh
import tiny
from manyhands.errors import (
    BadSampling,
    BadSetting,
    CheckpointError,
    ContextOverflow,
    ManyhandsError,
    ResourceError,
    UserError,
)

CASES = (
    "llama",
    "llama-sharded",
    "llama-tied",
    "llama-llama3",
    "llama-linear",
    "llama-yarn",
    "llama-bias",
    "mistral",
    "mistral-window",
    "qwen2",
    "qwen2-tied",
    "qwen3",
    "qwen3-tied-bias",
)
PROMPT = [7, 1, 300, 42, 42, 9, 120, 11, 256, 3, 77]
SAMPLED = {"temperature": 1.0, "top_k": 50, "seed": 11, "frequency_penalty": 0.2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(case: str):
        if case not in made:
            made[case] = tiny.make(case, tmp_path_factory.mktemp(case))
        return made[case]

    return folder


def load(folder, peers: int, engine: str) -> mh.Model:
    return mh.load(
        folder, peers=peers, engine=engine, dtype="auto" if engine == "numpy" else "fp32"
    )


@pytest.fixture(scope="module")
def llama(folders):
    with load(folders("llama"), 3, "numpy") as model:
        yield model


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_transformers_one_peer_and_three_peers_agree(folders, case: str, engine: str) -> None:
    folder = folders(case)
    oracle = tiny.oracle(folder)
    with torch.inference_mode():
        expected_logits = oracle(torch.tensor([PROMPT])).logits[0].numpy()
        expected = oracle.generate(
            torch.tensor([PROMPT]),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(PROMPT) :].tolist()
    for peers in (1, 3):
        with load(folder, peers, engine) as model:
            logits = model.forward(PROMPT, logits=True)
            np.testing.assert_allclose(logits, expected_logits, atol=1e-4)
            model._speaker.end_tokens = frozenset()
            assert model.generate_ids(PROMPT, 40) == expected


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_sampled_answer_is_the_same_from_one_peer_from_three_and_after_a_loss(
    folders, engine: str
) -> None:
    folder = folders("qwen3")
    with load(folder, 1, engine) as model:
        expected = model.generate(PROMPT, 60, **SAMPLED)
        assert expected != model.generate(PROMPT, 60, **{**SAMPLED, "seed": 12})
    for lost in (None, 1, 2):
        with load(folder, 3, engine) as model:
            stream = model.stream(PROMPT, 60, **SAMPLED)
            pieces = []
            for number, piece in enumerate(stream):
                pieces.append(piece)
                if number == 20 and lost is not None:
                    model.kill(lost)
            assert "".join(pieces) == expected
            if lost is not None:  # (a stalled machine may see a loss where there is none)
                assert stream.answer.recovered_s


def test_streams_iterate_with_for_and_with_async_for(llama) -> None:
    async def listen() -> str:
        return "".join([piece async for piece in llama.stream("the cat", 12)])

    whole = llama.generate("the cat", 12)
    assert whole == "".join(llama.stream("the cat", 12))
    assert whole == asyncio.run(listen())
    assert whole == asyncio.run(llama.agenerate("the cat", 12))


def test_hidden_states_are_one_row_a_token_in_both_faces(llama) -> None:
    rows = llama.forward(PROMPT)
    assert rows.shape == (len(PROMPT), 64)
    np.testing.assert_array_equal(rows, asyncio.run(llama.aforward(PROMPT)))


def test_a_prompt_longer_than_a_chunk_gives_the_rows_of_all_chunks(folders) -> None:
    small = mh.Settings(chunk_tokens=4)
    with mh.load(folders("llama"), peers=3, engine="numpy", settings=small) as chunked:
        rows = chunked.forward(PROMPT, logits=True)
    with load(folders("llama"), 1, "numpy") as whole:
        np.testing.assert_allclose(rows, whole.forward(PROMPT, logits=True), atol=1e-4)


def test_a_chat_is_rendered_by_its_template(llama) -> None:
    answer = llama.generate([{"role": "user", "content": "hello"}], 8)
    assert answer != llama.generate("hello", 8)


def test_an_answer_stops_before_a_stop_string(llama) -> None:
    whole = llama.generate("the cat", 30)
    stop = whole[6:8]
    stream = llama.stream("the cat", 30, stop=[stop])
    assert "".join(stream) == whole[: whole.find(stop)]
    assert stream.answer.finish == "stop"


def test_one_stop_string_may_stand_alone(llama) -> None:
    whole = llama.generate("the cat", 30)
    assert llama.generate("the cat", 30, stop=whole[6:8]) == whole[: whole.find(whole[6:8])]
    assert llama.generate("the cat", 30, stop=None) == whole


def test_the_context_limit_of_the_settings_holds(folders) -> None:
    settings = mh.Settings(context_limit=16)
    with mh.load(folders("llama"), engine="numpy", settings=settings) as model:
        assert len(model.generate_ids([1] * 10, 100)) == 6
        with pytest.raises(ContextOverflow, match="16"):
            model.generate_ids([1] * 16)
        with pytest.raises(ContextOverflow, match="16"):
            model.forward([1] * 17)


@pytest.mark.parametrize("peers", [1, 3])
def test_too_little_memory_is_a_resource_error_and_the_model_goes_on(folders, peers: int) -> None:
    settings = mh.Settings(kv_bytes=131072)
    with mh.load(folders("llama"), peers=peers, engine="numpy", settings=settings) as model:
        with pytest.raises(ResourceError, match="kv_bytes"):
            model.generate_ids([1] * 400, 50)
        assert len(model.generate_ids([1, 2, 3], 5)) == 5


@pytest.mark.parametrize("peers", [1, 3])
def test_damaged_weights_are_told_by_what_they_give(tmp_path, peers: int) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.make("llama", tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors")
    model = mh.load(folder, peers=peers, engine="numpy")
    with model, pytest.raises(ManyhandsError, match="nan"):
        model.generate_ids([1, 2, 3], 5)


def test_leaving_a_stream_early_frees_its_session(llama) -> None:
    for _ in llama.stream("the cat", 100):
        break
    assert llama.generate("the cat", 5)
    node = llama._swarm.owner

    async def sessions() -> int:
        await asyncio.sleep(0.05)
        return len(node.owner._sessions)

    assert llama._loop.ask(sessions()).result() == 0


def test_two_answers_at_once_do_not_mix(llama) -> None:
    alone = [llama.generate_ids([n, 5, 9], 25) for n in range(4)]

    async def together() -> list[str]:
        return await asyncio.gather(*(llama.agenerate([n, 5, 9], 25) for n in range(4)))

    texts = asyncio.run(together())
    assert texts == [llama.generate([n, 5, 9], 25) for n in range(4)]
    assert len(set(map(tuple, alone))) == 4


def test_logprobs_come_with_the_tokens(llama) -> None:
    stream = llama.stream("the cat", 5, logprobs=3)
    list(stream)
    for token in stream.answer.tokens:
        assert token.top[0] == (token.id, token.logprob)
        assert len(token.top) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"temperature": -1.0}, BadSampling, "temperature"),
        ({"top_p": 0.0}, BadSampling, "top_p"),
        ({"warmth": 1.0}, UserError, "warmth"),
        ({"max_tokens": 0}, UserError, "max_tokens"),
        ({"stop": [""]}, UserError, "stop"),
        ({"max_tokens": 2.5}, UserError, "max_tokens"),
        ({"max_tokens": None}, UserError, "max_tokens"),
        ({"logprobs": -1}, UserError, "logprobs"),
        ({"logprobs": True}, UserError, "logprobs"),
        ({"logprobs": 1.5}, UserError, "logprobs"),
        ({"logprobs": 321}, UserError, "320"),
        ({"max_new_tokens": 5}, BadSampling, "max_tokens"),
        ({"temprature": 0.5}, BadSampling, "temperature"),
    ],
)
def test_bad_sampling_is_refused_at_once_by_name(llama, arguments, error, says) -> None:
    with pytest.raises(error, match=says):
        llama.stream("the cat", **arguments)


def test_bad_prompts_are_refused_by_name(llama) -> None:
    with pytest.raises(ContextOverflow, match="512"):
        llama.generate([1] * 512)
    with pytest.raises(UserError, match="320"):
        llama.generate([320])
    with pytest.raises(UserError, match="empty"):
        llama.generate([])
    for prompt in ([1, "a"], b"hello", None, 7):
        with pytest.raises(UserError, match="prompt"):
            llama.generate(prompt)


def test_bad_loads_are_refused_and_leave_nothing_running(folders, tmp_path) -> None:
    with pytest.raises(CheckpointError):
        mh.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="peers"):
        mh.load(folders("llama"), peers=9)
    with pytest.raises(BadSetting, match="engine"):
        mh.load(folders("llama"), engine="abacus")
    with pytest.raises(BadSetting, match="dtype"):
        mh.load(folders("llama"), engine="torch", dtype="int3")
    with pytest.raises(BadSetting, match="numpy"):
        mh.load(folders("llama"), engine="numpy", dtype="bf16")


def test_the_owner_cannot_be_killed_and_a_closed_model_says_so(folders) -> None:
    model = load(folders("llama"), 2, "numpy")
    with pytest.raises(UserError, match="peer 0"):
        model.kill(0)
    model.close()
    model.close()
    with pytest.raises(UserError, match="closed"):
        model.generate("the cat")


def test_importing_the_package_loads_neither_torch_nor_the_house() -> None:
    import subprocess
    import sys

    script = (
        "import sys, manyhands; "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('manyhands.')])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_numpy_engine_never_imports_torch(folders) -> None:
    import subprocess
    import sys

    script = (
        "import sys; sys.modules['torch'] = None; import manyhands as mh; "
        f"m = mh.load({str(folders('llama'))!r}, peers=2, engine='numpy'); "
        "print(len(m.generate_ids([1, 2, 3], 5))); m.close()"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "5"
