"""BLEU and chrF of translations, by sacreBLEU (Post 2018), each with the signature that says how it was computed."""

from __future__ import annotations

from collections.abc import Sequence

import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


def _corpus(written: Sequence[str], *references: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Raises ValueError: not as many references as texts, of which sacreBLEU would score the first ones alone."""
    for one in references:
        if len(one) != len(written):
            raise ValueError(f"{len(written)} texts and {len(one)} references, expected as many")
    return list(written), [list(one) for one in references]


def bleu(written: Sequence[str], references: Sequence[str]) -> float:
    """Of detokenised text with its case, tokenised by 13a, 0 to 100: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`."""
    return float(BLEU().corpus_score(*_corpus(written, references)).score)


def bleu_lower(written: Sequence[str], references: Sequence[str]) -> float:
    """The same without case, nearer to papers of Multi30k, which score tokenised text in small letters."""
    return float(BLEU(lowercase=True).corpus_score(*_corpus(written, references)).score)


def bleu_of_words(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Of words with one space between them, unsmoothed, 0 to 100.

    Args:
        references: each of all texts; of one text the reference of the nearest length counts.
    """
    score = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(score.corpus_score(*_corpus(written, *references)).score)


def chrf(written: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 (Popovic 2015), 0 to 100: `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`."""
    return float(CHRF().corpus_score(*_corpus(written, references)).score)


def sentence_chrf(written: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF2 of each sentence alone."""
    score = CHRF()
    return [float(score.sentence_score(one, [other]).score) for one, other in zip(written, references, strict=True)]


def version() -> str:
    """What every protocol names."""
    return f"sacreBLEU {sacrebleu.__version__}"
