"""An encoder-decoder behind /v1/completions: the prompt is read, the answer is its decoder's."""

import pytest

from api_house import CHAT, house
from universal_cases import make

TEXT = "Many hands make light work"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = make("bart", tmp_path_factory.mktemp("bart"))
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        (folder / file).unlink(missing_ok=True)
    with house(folder, engine="auto") as built:
        yield built


def test_a_prompt_is_read_and_the_answer_is_the_decoders_text(reader):
    speaker = reader.serving.speakers[0]

    async def whole():
        answer = speaker.answer(TEXT, 12, sampling={"seed": 3, "temperature": 0.9})
        return "".join([piece async for piece in answer.pieces()])

    with reader.openai() as client:
        asked = {"model": "tiny", "prompt": TEXT, "max_tokens": 12, "seed": 3, "temperature": 0.9}
        plain = client.completions.create(**asked)
        streamed = "".join(
            event.choices[0].text for event in client.completions.create(**asked, stream=True)
        )
    assert plain.choices[0].text == streamed == reader.run(whole()) != ""
    assert plain.usage.prompt_tokens == len(speaker.ids(TEXT))
    assert plain.usage.completion_tokens == 12
    assert reader.sessions() == 0


def test_what_cannot_be_read_is_refused_and_says_why(reader):
    with reader.http() as http:
        long = http.post("/v1/completions", json={"prompt": [9] * 513, "max_tokens": 4})
        chat = http.post("/v1/chat/completions", json={"messages": CHAT})
        vector = http.post("/v1/embeddings", json={"input": TEXT})
    assert (long.status_code, chat.status_code, vector.status_code) == (400, 400, 400)
    assert "has 513 tokens; this model reads a text of up to 512 at once" in long.text
    assert "no chat template" in chat.text
    assert "embeddings need an encoder" in vector.text
    assert reader.sessions() == 0
