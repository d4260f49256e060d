#!/usr/bin/env bash
# Hugging Face's ByteFallback decoder throws away all characters of a run of bytes when one byte of the run is amiss.
#
# One expects: of bytes that are no UTF-8 one gets U+FFFD in their place, and the characters beside them stay: so decode
# SentencePiece with the same pieces, the ByteLevel decoder of the same library, DecodeStream, and bytes.decode().
# What happens: neighbouring byte tokens are decoded together or not at all. A text in a script that the vocabulary
# lacks is nothing but such tokens: if it stops inside a character, as an answer may that reaches its most tokens, or
# if one byte is wrong, the whole run becomes U+FFFD, one for each byte, though all but one character were complete.
# A streaming answer has shown them already, and the final decode() takes them back. The run must be cut first at the
# last complete character; vocabularies of Llama 2, Mistral 7B and Gemma are of this kind.
# Versions: tokenizers 0.23.3, sentencepiece 0.2.3, Python 3.11, Linux on x86-64.
# Source: the packages tokenizers (decoders.ByteFallback, Sequence, DecodeStream) and sentencepiece; issue 929 of
# huggingface/tokenizers, from which the decoder came. No issue names this.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps tokenizers==0.23.3 sentencepiece==0.2.3
"$folder/venv/bin/python" - <<'PYTHON'
import io

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

lines = ["a cat sat", "the cat ran", "a hat"] * 50
made = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=made, vocab_size=275, byte_fallback=True, hard_vocab_limit=False,
    minloglevel=2,
)  # fmt: skip
other = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
pieces = [(other.id_to_piece(i), other.get_score(i)) for i in range(other.get_piece_size())]
ours = Tokenizer(models.Unigram(pieces, unk_id=other.unk_id(), byte_fallback=True))
ours.pre_tokenizer = pre_tokenizers.Metaspace()
ours.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
level = Tokenizer(models.BPE(alphabet, []))
level.pre_tokenizer, level.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()


def streamed(ids):
    stream = decoders.DecodeStream()
    return "".join(stream.step(ours, i) or "" for i in ids)


LOST = "\ufffd"
print(f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}")
for text in ("a cat 猫が好き", "cat 😀😀😀", "χαίρετε", "साल"):
    ids = ours.encode(text).ids
    assert ids == other.encode(text) and ours.decode(ids) == other.decode(ids) == text
    cut = ids[:-1]  # the last character is not complete
    found, there, stream = ours.decode(cut), other.decode(cut), streamed(cut)
    print(f"{text!r} less its last byte: decode {found!r}, DecodeStream {stream!r}, sentencepiece {there!r}")
    bytes_ = level.encode(text).ids[:-1]
    assert level.decode(bytes_).rstrip(LOST) == there.rstrip(LOST) == stream == text[:-1]
    run = text[:-1].rpartition(" ")[2]  # all in bytes
    lost = len(run.encode()) + len(text[-1].encode()) - 1
    assert run and found == text[: -1 - len(run)] + LOST * lost, "changed: complete characters stay"

text = "猫" * 20
ids = ours.encode(text).ids
ids[-2] = ids[-3]  # one byte of the last character is another
found, there = ours.decode(ids), other.decode(ids)
print(f"20, one byte of the last is wrong: decode keeps {found.count('猫')}, sentencepiece {there.count('猫')}")
assert there.count("猫") == 19 and found.count("猫") == 0, "changed: complete characters stay"
print("as found: one byte takes its neighbours with it")
PYTHON
