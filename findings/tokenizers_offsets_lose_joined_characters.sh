#!/usr/bin/env bash
# The offsets of Hugging Face's tokenizers leave out characters that a normaliser has joined with others.
#
# One expects: a token's offsets tell which characters of the text it stands for, whatever the normaliser did: "e" and a
# combining accent that NFC makes one letter are both its own, and so text[start:end] is the word: of a named entity, an
# answer, or an alignment that is shown.
# What happens: with NFC and NFKC the letter has the place of its first character alone, and a word that ends with it
# loses its accent: "re\u0301sume\u0301" gives "re\u0301sume", another word; a Hangul syllable in three parts loses its
# vowel and its end. With Replace it is the last character of what was replaced. What is left out belongs to no token.
# Names of files from macOS are often of this kind. Composed text is right, and so are NFD and NFKD. It helps to
# normalise before encode(), and to cut from that text.
# Versions: tokenizers 0.23.3, Python 3.11, Linux on x86-64.
# Source: the package tokenizers; issues 892, 1040 and 1201 of huggingface/tokenizers, closed as stale.
# Ends with 0 while this is so, and with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
import unicodedata

import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

print(f"tokenizers {tokenizers.__version__}")


def slices(normalizer, text):
    """The tokens of a text, what the offsets cut out of it, and the characters other than spaces that no token has."""
    found = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    found.normalizer, found.pre_tokenizer = normalizer, pre_tokenizers.WhitespaceSplit()
    offsets = found.encode(text).offsets
    words = [text[start:end] for start, end in offsets]
    inside = {i for start, end in offsets for i in range(start, end)}
    return words, [text[i] for i in range(len(text)) if i not in inside and not text[i].isspace()]


for name in ("NFC", "NFKC"):
    for text in ("the résumé of a café", "서울 한국"):
        apart = unicodedata.normalize("NFD", text)
        words, left = slices(getattr(normalizers, name)(), apart)
        print(f"{name}, {ascii(apart)}: {ascii(words)}; in no token: {ascii(left)}")
        assert slices(getattr(normalizers, name)(), text) == (text.split(), [])
        assert slices(getattr(normalizers, name.replace("C", "D"))(), text) == (text.split(), [])
        assert left and words != apart.split(), "changed: the offsets have all characters"
        for word, true in zip(words, apart.split(), strict=True):
            ends = unicodedata.normalize("NFC", true)[-1]
            assert word == true[: len(true) - len(unicodedata.normalize("NFD", ends)) + 1]
for pattern, content, text, cut in (("``", '"', "say ``yes", ["say", "`yes"]), ("(c)", "c", "all (c)", ["all", ")"])):
    words, left = slices(normalizers.Replace(pattern, content), text)
    print(f"Replace {pattern!r} by {content!r}, {text!r}: {words}; in no token: {left}")
    assert words == cut, "changed: the offsets have all characters"
print("as found: what was joined is cut off")
PYTHON
