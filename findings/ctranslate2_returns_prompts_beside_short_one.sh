#!/usr/bin/env bash
# CTranslate2 puts each prompt of a batch into its answer as soon as one prompt of the batch is a single token.
#
# One expects: with include_prompt_in_result=False an answer is what the model wrote, and it depends on its own prompt
# alone, whoever is in the batch. So it is for prompts of 2, 4 and 6 tokens together, as the documentation describes.
# What happens: where the shortest prompt is one token (a bare "<s>", or one word for a model without it), nothing can
# be read ahead, and by the same "if" the wish is forgotten for the whole batch. The other answers begin with their own
# prompts less the first token, these count for max_length, so that little or nothing new is left, and the score is
# divided by their length too: it looks surer. There is no error; a server that batches meets it by one short request.
# Prompts of one token must be run apart from the others.
# Versions: ctranslate2 4.8.5, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the package ctranslate2, Generator.generate_batch; src/models/language_model.cc of OpenNMT/CTranslate2. Pull
# request 1145 brought the option; no issue names this.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ctranslate2==4.8.5 numpy==2.4.6 pyyaml==6.0.4
"$folder/venv/bin/python" - "$folder/model" <<'PYTHON'
import sys
from pathlib import Path

import ctranslate2
import numpy as np

TOKENS, WIDTH, HEADS, LAYERS = 40, 32, 4, 2
rng = np.random.default_rng(0)


def matrix(*shape):
    return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)


def fill(layer, read, written):
    layer.weight, layer.bias = matrix(written, read), np.zeros(written, np.float32)


def plain(norm):
    norm.gamma, norm.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)


spec = ctranslate2.specs.TransformerDecoderModelSpec.from_config(LAYERS, HEADS, pre_norm=True)
decoder = spec.decoder
decoder.embeddings.weight = matrix(TOKENS, WIDTH)
decoder.position_encodings.encodings = matrix(64, WIDTH)
plain(decoder.layer_norm)
for layer in decoder.layer:
    plain(layer.self_attention.layer_norm)
    fill(layer.self_attention.linear[0], WIDTH, 3 * WIDTH)
    fill(layer.self_attention.linear[1], WIDTH, WIDTH)
    plain(layer.ffn.layer_norm)
    fill(layer.ffn.linear_0, WIDTH, 4 * WIDTH)
    fill(layer.ffn.linear_1, 4 * WIDTH, WIDTH)
fill(decoder.projection, WIDTH, TOKENS)
decoder.projection.bias[2] = -9  # no text ends by itself
spec.register_vocabulary(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, TOKENS))])
spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "<unk>", "<s>", "</s>"
spec.validate()
folder = Path(sys.argv[1])
folder.mkdir()
spec.save(str(folder))
generator = ctranslate2.Generator(str(folder), device="cpu", inter_threads=1, intra_threads=1)


def write(prompts):
    found = generator.generate_batch(prompts, include_prompt_in_result=False, return_scores=True, max_length=4)
    return [(one.sequences[0], one.scores[0]) for one in found]


print(f"ctranslate2 {ctranslate2.__version__}, include_prompt_in_result=False, max_length=4, greedy")
prompt, same, longer = "w3 w4 w5 w6".split(), "w9 w8".split(), "w8 w7 w3 w5 w4 w9".split()
[(alone, score)] = write([prompt])
print(f"prompt {prompt}, alone: {alone}, score {score:.3f}")
for others in ([same], [longer], [same, longer]):
    words, its = write([prompt, *others])[0]
    print(f"  beside prompts of {[len(one) for one in others]} tokens: {words}, score {its:.3f}")
    assert words == alone and abs(its - score) < 1e-3
for short in (["<s>"], ["w7"]):
    words, its = write([prompt, short])[0]
    print(f"  beside the prompt {short}: {words}, score {its:.3f}")
    assert words == prompt[1:] + alone[:1], "changed: the prompt is no part of the answer"
    assert its > score + 0.1, "changed: the score is that of the answer"
    words, _ = write([longer, short])[0]
    print(f"  and of {longer} there: {words}")
    assert words == longer[1:5], "changed: there is something new in the answer"
print("as found: one short prompt brings every prompt into the answers")
PYTHON
