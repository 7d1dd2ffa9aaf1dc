"""Asks a running `hands serve` with the openai package.

python examples/ask_by_http.py [URL]          URL is http://127.0.0.1:7700 unless told otherwise
"""

import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7700"
model = OpenAI(base_url=f"{url}/v1", api_key="none needed on this machine")
name = model.models.list().data[0].id

for event in model.completions.create(
    model=name, prompt="Once upon a time", max_tokens=60, temperature=0.7, seed=3, stream=True
):
    print(event.choices[0].text, end="", flush=True)
print()
