"""Subword units (byte pair encoding, Sennrich et al. 2016) that are learnt here: the same texts give the same file.

All that happens to a text is in the file: characters that mean the same are made one, spaces are runs of one, a word's
parts carry their space with them (▁), so that joining the parts gives the text back. Ids 0 to 3 are padding, unknown,
start and end. They are in the vocabulary and nowhere else: a text with `</s>` in it is a text, not the end of one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL: Final = ("<pad>", "<unk>", "<s>", "</s>")
END: Final = SPECIAL.index("</s>")
SPACE: Final = "\u2581"
RARE: Final = 3
"""A character that is seen less often is unknown, so that the net learns what to make of one."""

# What is replaced by what, in this order, after NFC. Control characters and all kinds of spaces are spaces; invisible
# ones (soft hyphen, zero width, marks of direction) are nothing.
PLAIN: Final = (
    ("&amp;", "&"),
    (Regex(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"), ""),
    (Regex(r"[\u0000-\u001f\u007f-\u009f\s]+"), " "),
    (Regex(r"[“”„‟«»]"), '"'),
    (Regex(r"[‘’‚‛´`]"), "'"),
    (Regex(r"[‐‑–—]"), "-"),
    ("…", "..."),
    (SPACE, "_"),
)


def train(texts: Sequence[str], *, vocabulary: int, lower: bool = False) -> Tokenizer:
    """Learn a tokenizer of at most that many tokens, the four special ones among them; `lower` makes letters small."""
    tokenizer = _untrained(lower)
    often = Counter(char for text in texts for word in words(tokenizer, text) for char in word)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        # No character is as frequent as the first that is left out: the trainer would choose between them at random.
        limit_alphabet=sum(count >= RARE for count in often.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    found = json.loads(tokenizer.to_str())
    found["added_tokens"] = []  # or they would be looked for in texts
    return Tokenizer.from_str(json.dumps(found, ensure_ascii=False))


def file_of(tokenizer: Tokenizer, *, end: bool) -> str:
    """The file's text. With `end`, what it encodes ends in `END`, as an encoder reads it."""
    found = json.loads(tokenizer.to_str())
    if end:
        found["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": SPECIAL[END], "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {SPECIAL[END]: {"id": SPECIAL[END], "ids": [END], "tokens": [SPECIAL[END]]}},
        }
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Ids of each text, (T,)."""
    return [np.array(one.ids, np.int64) for one in tokenizer.encode_batch(list(texts))]


def words(tokenizer: Tokenizer, text: str) -> Iterable[str]:
    """What a text is divided into before its parts are looked up: words with their space, signs, digits."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))]


def _untrained(lower: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[1], fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            *([normalizers.Lowercase()] if lower else []),
            *(normalizers.Replace(*pair) for pair in PLAIN),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    return tokenizer
