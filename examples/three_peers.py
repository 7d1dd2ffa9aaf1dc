"""Three peers in this process share a model; one is lost in mid-answer, and the answer goes on.

python examples/three_peers.py [FOLDER]          without a folder: the storyteller of the package
"""

import sys

import manyhands as mh

PROMPT, TOKENS, SAMPLING = "Once upon a time", 60, {"temperature": 0.7, "seed": 3}

with mh.load(sys.argv[1] if len(sys.argv) > 1 else "storyteller", peers=3) as model:
    print(*model.peers, sep="\n")
    undisturbed = model.generate(PROMPT, TOKENS, **SAMPLING)
    stream, said = model.stream(PROMPT, TOKENS, **SAMPLING), []
    print(f"\n{PROMPT}", end="", flush=True)
    for piece in stream:
        said.append(piece)
        print(piece, end="", flush=True)
        if len(said) == TOKENS // 2:
            print(" *** peer 1 is lost *** ", end="")
            model.kill(1)
    print(f"\n\nrecovered in {1e3 * sum(stream.answer.recovered_s):.1f} ms")
    print("identical to an undisturbed run:", "yes" if "".join(said) == undisturbed else "no")
