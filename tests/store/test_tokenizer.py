"""The tokenizer says what transformers' AutoTokenizer says, and refuses damaged files by name."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import tiny
from manyhands.errors import CheckpointError, UserError
from manyhands.store.tokenizer import Tokenizer

TEXTS = [*tiny.SENTENCES, "", " ", "  two  spaces ", "<s>hi</s>", "\x00\x7f", "🙂🙃" * 3, "e\u0301"]
CHAT = [
    {"role": "system", "content": "  Be brief. "},
    {"role": "user", "content": "Où est 東京? 🙂"},
    {"role": "assistant", "content": "Là."},
    {"role": "user", "content": "<|end|> no"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def ours(folder):
    return Tokenizer.open(folder)


@pytest.fixture(scope="module")
def oracle(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def change_settings(folder, **changes):
    file = folder / "tokenizer_config.json"
    kept = {**json.loads(file.read_text("utf-8")), **changes}
    file.write_text(json.dumps({k: v for k, v in kept.items() if v is not None}), "utf-8")


@pytest.mark.parametrize("text", TEXTS)
def test_text_becomes_the_same_ids_and_back(ours, oracle, text):
    for special in (True, False):
        assert ours.encode(text, special) == oracle.encode(text, add_special_tokens=special)
    ids = ours.encode(text)
    assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    assert ours.decode(ids, skip_special=False) == oracle.decode(ids)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, tiny.VOCABULARY - 1), max_size=30))
def test_any_ids_become_the_same_text(ours, oracle, ids):
    assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("messages", [CHAT, CHAT[:2], CHAT[1:2], CHAT[1:]])
@pytest.mark.parametrize("prompt", [True, False])
def test_a_chat_becomes_the_same_ids(ours, oracle, messages, prompt):
    expected = oracle.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
    assert ours.render_text(messages, prompt) == expected
    ids = oracle.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
    assert ours.render(messages, prompt) == ids
    assert ours.render(messages, prompt).count(0) == 1  # one <s>, the template's own


def test_it_knows_its_size_and_special_tokens(ours, oracle):
    assert ours.size == len(oracle) <= tiny.VOCABULARY
    assert (
        ours.special_ids
        == set(range(len(tiny.SPECIALS)))
        == set(oracle.all_special_ids) | {ours.token_id(token) for token in tiny.SPECIALS}
    )
    assert ours.token_id("no such token") is None
    assert ours.has_chat_template


def test_a_role_that_the_template_refuses_is_a_user_error(ours):
    with pytest.raises(UserError, match="no such role: tool"):
        ours.render([{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}])


def test_truncation_and_padding_left_in_the_file_do_not_cut_a_prompt(copy):
    file = copy / "tokenizer.json"
    inner = json.loads(file.read_text("utf-8"))
    inner["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    inner["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 2,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    file.write_text(json.dumps(inner), "utf-8")
    ids = Tokenizer.open(copy).encode("many hands make light work")
    assert 4 < len(ids) < 64
    assert 2 not in ids


def test_a_template_is_found_in_each_of_its_places(copy):
    message = [{"role": "user", "content": "x"}]
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "list"}]
    change_settings(copy, chat_template=named)
    assert Tokenizer.open(copy).render_text(message) == "list"
    (copy / "chat_template.jinja").write_text("file {{ bos_token }}{{ eos_token }}")
    change_settings(copy, bos_token={"content": "<s>", "lstrip": False, "__type": "AddedToken"})
    assert Tokenizer.open(copy).render_text(message) == "file <s></s>"
    (copy / "chat_template.jinja").unlink()
    change_settings(copy, chat_template=None)
    plain = Tokenizer.open(copy)
    assert not plain.has_chat_template
    with pytest.raises(UserError, match="no chat template"):
        plain.render(message)
    (copy / "tokenizer_config.json").unlink()
    assert Tokenizer.open(copy).encode("x") == plain.encode("x")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": {"type": "BPE"}}', "\x00"])
def test_a_damaged_tokenizer_is_a_typed_error(copy, content):
    (copy / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.open(copy)


def test_a_missing_tokenizer_says_how_to_make_one(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="save_pretrained"):
        Tokenizer.open(copy)


@pytest.mark.parametrize("template", [7, {"default": "x"}, [{"name": "default", "template": 3}]])
def test_a_template_that_is_no_text_is_a_typed_error(copy, template):
    change_settings(copy, chat_template=template)
    with pytest.raises(CheckpointError, match="chat_template"):
        Tokenizer.open(copy)


def test_what_is_no_text_and_what_is_no_id_are_user_errors(ours):
    for text in (7, None, b"bytes", "\ud800"):
        with pytest.raises(UserError):
            ours.encode(text)
    for ids in ([-1], ["a"], [2**40]):
        with pytest.raises(UserError):
            ours.decode(ids)


def test_a_git_lfs_pointer_in_place_of_the_tokenizer_is_told(copy):
    (copy / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.json is a git-lfs pointer.*git lfs pull"
    ):
        Tokenizer.open(copy)


def test_a_tokenizer_is_found_from_home(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    monkeypatch.setenv("USERPROFILE", str(copy.parent))
    assert Tokenizer.open("~/copy").size == Tokenizer.open(copy).size
    with pytest.raises(CheckpointError, match="give a path"):
        Tokenizer.open(None)
