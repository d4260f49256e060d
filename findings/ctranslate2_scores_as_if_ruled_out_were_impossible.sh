#!/usr/bin/env bash
# CTranslate2 scores a translation as if what it may not write were impossible: first of all, to write nothing.
#
# One expects: options choose what may be written, and the score of what was written is what the model gives to it: the
# mean log probability of its tokens, as score_batch() tells for the same text. "It is the log of a probability."
# What happens: tokens that are ruled out are taken away before the softmax, and the others share their probability. By
# default (min_decoding_length=1) this is the end of the text in the first step: where the net is nearly sure that there
# is nothing to say, the words that it is made to say have the score of a safe text. With disable_unk it is so in each
# step where it would have said "unknown"; with min_decoding_length, no_repeat_ngram_size and suppress_sequences
# likewise. So no limit on the score finds just the texts that should not be there. With min_decoding_length=0 and
# nothing ruled out the score is right; score_batch() afterwards is right for all.
# Versions: ctranslate2 4.8.5, NumPy 2.4.6, Python 3.11, Linux on x86-64.
# Source: the package ctranslate2, Translator.translate_batch; src/decoding.cc and issue 1024 of OpenNMT/CTranslate2
# (what the score is). Issue 21321 of huggingface/transformers has a like case, with a minimal length that one sets.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ctranslate2==4.8.5 numpy==2.4.6 pyyaml==6.0.4
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import ctranslate2
import numpy as np

TOKENS, WIDTH, HEADS = 40, 32, 4


def translator(folder, likely):
    """A Transformer of random numbers; `likely` are added to the logits of some tokens."""
    rng = np.random.default_rng(0)

    def matrix(*shape):
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    def fill(layer, read, written):
        layer.weight, layer.bias = matrix(written, read), np.zeros(written, np.float32)

    def plain(norm):
        norm.gamma, norm.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    spec = ctranslate2.specs.TransformerSpec.from_config((1, 1), HEADS)
    for side in (spec.encoder, spec.decoder):
        embeddings = side.embeddings[0] if side is spec.encoder else side.embeddings
        embeddings.weight = matrix(TOKENS, WIDTH)
        side.position_encodings.encodings = matrix(64, WIDTH)
        plain(side.layer_norm)
        for layer in side.layer:
            blocks = [(layer.self_attention, (3 * WIDTH, WIDTH))]
            if side is spec.decoder:
                blocks.append((layer.attention, (WIDTH, 2 * WIDTH, WIDTH)))
            for block, sizes in blocks:
                plain(block.layer_norm)
                for linear, size in zip(block.linear, sizes, strict=True):
                    fill(linear, WIDTH, size)
            plain(layer.ffn.layer_norm)
            fill(layer.ffn.linear_0, WIDTH, 4 * WIDTH)
            fill(layer.ffn.linear_1, 4 * WIDTH, WIDTH)
    fill(spec.decoder.projection, WIDTH, TOKENS)
    spec.decoder.projection.weight *= 3
    names = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, TOKENS))]
    for name, more in likely.items():
        spec.decoder.projection.bias[names.index(name)] = more
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    folder.mkdir()
    spec.save(str(folder))
    return ctranslate2.Translator(str(folder), device="cpu", inter_threads=1, intra_threads=1)


rng = np.random.default_rng(1)
sources = [[f"w{i}" for i in rng.integers(3, TOKENS, size)] for size in rng.integers(3, 12, 60)]
print(f"ctranslate2 {ctranslate2.__version__}; scores are means of log probabilities")
work = Path(sys.argv[1])
for what, likely, options, ruled_out in (
    ("default", {"</s>": 8}, {}, "</s>"),
    ("min_decoding_length=0", {"</s>": 5}, {"min_decoding_length": 0}, None),
    ("disable_unk", {"</s>": 4, "<unk>": 5}, {"disable_unk": True, "min_decoding_length": 0}, "<unk>"),
):
    net = translator(work / what, likely)
    for beam in (1, 4):
        found = net.translate_batch(sources, beam_size=beam, return_scores=True, max_decoding_length=20, **options)
        kept = [i for i, one in enumerate(found) if len(one.hypotheses[0]) < 20]  # those that end
        texts, read = [found[i].hypotheses[0] for i in kept], [sources[i] for i in kept]
        scores = np.array([found[i].scores[0] for i in kept])
        true = [np.array(one.log_probs) for one in net.score_batch(read, texts)]
        means = np.array([one.mean() for one in true])
        # What the model gives to the token that is ruled out, in each step in which it is.
        lost = np.zeros(len(kept))
        for j, (source, text) in enumerate(zip(read, texts, strict=True)):
            steps = {None: 0, "</s>": 1, "<unk>": len(text) + 1}[ruled_out]
            for step in range(steps):
                before = text[:step] if ruled_out == "</s>" else [*text[:step], ruled_out]
                p = np.exp(net.score_batch([source], [before])[0].log_probs[step])
                lost[j] += np.log1p(-p) / len(true[j])
        assert len(kept) > 9 and np.abs(scores - (means - lost)).max() < 1e-3, "changed: other scores"
        worst = int(np.argmax(scores - means))
        text = " ".join(texts[worst])
        print(f"{what}, beam {beam}, {len(kept)} texts: at most {scores[worst] - means[worst]:.2f} too high, ", end="")
        print(f"{text!r} has {scores[worst]:.2f}, score_batch {means[worst]:.2f}")
        if ruled_out is None:
            assert np.abs(scores - means).max() < 1e-3
        else:
            assert (scores - means).max() > 0.5, "changed: the score is that of the model"
print("as found: what is ruled out counts as impossible")
PYTHON
