"""Three peers share a model; one is lost in mid-answer, and the answer goes on with the same words.

python examples/three_peers.py [FOLDER]      without a folder: a tiny random model, made on the fly
"""

import sys
import tempfile

import manyhands as mh

PROMPT, TOKENS = [1, 2, 3, 4, 5], 60


def make_random_model(folder: str) -> str:
    """A Llama with random weights: its words mean nothing, but they are always the same."""
    import transformers

    config = transformers.LlamaConfig(hidden_size=64, num_hidden_layers=6, vocab_size=512)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


with tempfile.TemporaryDirectory() as made:
    folder = sys.argv[1] if len(sys.argv) > 1 else make_random_model(made)
    with mh.load(folder, peers=3) as model:
        print(*model.peers, sep="\n")
        undisturbed = model.generate_ids(PROMPT, TOKENS)
        stream, spoken = model.stream_ids(PROMPT, TOKENS), []
        for token in stream:
            spoken.append(token)
            print(token, end=" ", flush=True)
            if len(spoken) == TOKENS // 2:
                print("\n*** peer 1 is lost ***")
                model.kill(1)
        print(f"\nrecovered in {1e3 * sum(stream.answer.recovered_s):.1f} ms")
        print("identical to an undisturbed run:", "yes" if spoken == undisturbed else "no")
