"""BLEU and chrF of translations, by sacreBLEU (Post 2018), each with the signature that says how it was computed."""

from __future__ import annotations

from collections.abc import Sequence

import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


def bleu(written: Sequence[str], references: Sequence[str]) -> float:
    """Of detokenised text with its case, tokenised by 13a, 0 to 100: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`."""
    return float(BLEU().corpus_score(list(written), [list(references)]).score)


def bleu_lower(written: Sequence[str], references: Sequence[str]) -> float:
    """The same without case, nearer to papers of Multi30k, which score tokenised text in small letters."""
    return float(BLEU(lowercase=True).corpus_score(list(written), [list(references)]).score)


def chrf(written: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 (Popovic 2015), 0 to 100: `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`."""
    return float(CHRF().corpus_score(list(written), [list(references)]).score)


def sentence_chrf(written: Sequence[str], references: Sequence[str]) -> list[float]:
    """chrF2 of each sentence alone."""
    score = CHRF()
    return [float(score.sentence_score(one, [other]).score) for one, other in zip(written, references, strict=True)]


def version() -> str:
    """What every protocol names."""
    return f"sacreBLEU {sacrebleu.__version__}"
