"""Measures of quality in words: their titles, their better side, and figures with their significant decimals."""

from __future__ import annotations

from html import escape
from typing import Final

from app.core.manifest import Measure

THIN: Final = "\u202f"  # narrow no-break space, between a number and its unit
TITLES: Final = {
    "accuracy": "Accuracy",
    "nll": "Negative log-likelihood",
    "ece": "Calibration error",
    "brier": "Brier score",
    "share_commonest": "Share of the commonest label",
    "recall": "Recall",
    "precision": "Precision",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "mae": "Mean absolute error",
    "r2": "R²",
    "psnr": "PSNR",
    "elbo": "ELBO",
    "kl": "KL divergence",
    **{f"coverage_{c}": f"Within the {c} % interval" for c in (50, 80, 90, 95)},
    "coverage_90_group": "Within the 90 % interval, worst group",
    "width_90": "Width of the 90 % interval",
    **{f"psnr_{s}": f"PSNR at noise {s}" for s in (15, 25, 50)},
    **{f"psnr_blind_{s}": f"PSNR at noise {s}, estimated" for s in (15, 25, 50)},
    "fd_ratio": "FD ratio",
    **{f"fd_ratio_{e}": f"FD ratio ({e})" for e in ("pooled", "strided", "random")},
    **{f"fd_ratio_{n}": f"FD ratio, {n} evaluation{'s' * (n > 1)}" for n in (1, 2, 4, 8, 16)},
    **{
        f"fd_ratio_{n}_{e}": f"FD ratio, {n} evaluation{'s' * (n > 1)} ({e})"
        for n in (1, 2, 4, 8, 16)
        for e in ("pooled", "strided", "random")
    },
    "denoised_psnr": "Noise removed, level given",
    "blind_psnr": "Noise removed, level not given",
    "gain_bm3d_psnr": "Gain over BM3D",
    "gain_nlm_psnr": "Gain over non-local means",
    "read_accuracy": "Classified correctly after denoising",
    "class_share": "Requested class generated",
    "cas_gap": "CAS gap",
    "wer_grid": "Word errors, GRID",
    "wer_fsdd": "Word errors, spoken digits",
    "wer_commands": "Word errors, commands",
    "accuracy_letters": "Letters recognised",
    "accuracy_unseen_speakers": "Accuracy, unseen speakers",
    "ece_words": "Calibration error of words",
    "start_error_ms": "Start of words",
    "doubt_share_noise": "Noise called noise",
    "doubt_share_reversed": "Unknown speech called noise",
    "doubted_speech": "Known words called noise",
    "bleu": "BLEU",
    "chrf": "chrF2",
    "bleu_2017": "BLEU, test of 2017",
    "chrf_2017": "chrF2, test of 2017",
    "bleu_2018": "BLEU, test of 2018",
    "chrf_2018": "chrF2, test of 2018",
    "bleu_mscoco": "BLEU, test of COCO",
    "chrf_mscoco": "chrF2, test of COCO",
    "bleu_tatoeba": "BLEU, everyday sentences",
    "chrf_tatoeba": "chrF2, everyday sentences",
    "bleu_lower": "BLEU, in small letters",
    "gain_of_attention_bleu": "Gain by attention",
    "cider": "CIDEr-D",
    "bleu_4": "BLEU-4",
    "cider_greedy": "CIDEr-D, greedy",
    "bleu_4_greedy": "BLEU-4, greedy",
    "recall_10": "Right picture among the first ten",
    "gain_of_sight_cider": "Gain by looking",
    "accuracy_exact": "Whole sentence right",
    "accuracy_unseen": "Whole sentence right, unseen combinations",
    "share_pointed": "Looks where the digit is",
    "ece_tokens": "Calibration error of tokens",
    "auc_probability": "Wrong sentences told by probability",
    "error_confident": "Confidently wrong",
}
HIGHER: Final = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "top5",
    "auc",
    "r2",
    "psnr",
    "elbo",
    "share",
    "memorisation",
    "bleu",
    "chrf",
    "cider",
)
LOWER: Final = ("nll", "ece", "brier", "error", "loss", "mse", "rmse", "mae", "kl", "ratio", "gap", "wer", "doubted")
SHARES: Final = ("accuracy", "ece", "precision", "recall", "error", "top5", "coverage", "share", "wer", "doubted")
DECIMALS: Final = {"ratio": 2, "memorisation": 3, "gap": 2, "cider": 3}


def kind_of(name: str) -> str:
    """`test_accuracy` -> `accuracy`: the known word that a measure's name ends in, else the name itself."""
    return next((known for known in (*HIGHER, *LOWER, *SHARES) if known in name.lower().split("_")), name.lower())


def is_better_higher(name: str) -> bool:
    """Whether more of a measure is better."""
    return kind_of(name) in HIGHER


def title_of(name: str) -> str:
    """A heading for a measure."""
    first, _, rest = name.partition("_")
    if name not in TITLES and first in TITLES and rest:
        return f"{TITLES[first]}, {rest.replace('_', ' ')}"
    return TITLES.get(name, name.replace("_", " ").capitalize())


def decimals(value: float, name: str, unit: str = "") -> int:
    """The significant decimals of a measure: those that other seeds or rows would not change."""
    if unit in ("%", "dB") or (not unit and kind_of(name) in SHARES):
        return 2
    return DECIMALS.get(kind_of(name), 2 if abs(value) >= 1 else 4)


def figure(value: float, name: str, unit: str = "", *, digits: int | None = None) -> str:
    """A value with its unit, and `digits` decimals instead of its own; shares without a unit become per cent."""
    digits = decimals(value, name, unit) if digits is None else digits
    kind = kind_of(name)
    if not unit and kind in SHARES:
        value, unit = 100 * value, "%"
    if not unit and kind == "nll":
        unit = "nats"
    text = f"{value:.{digits}f}"
    return f"{text}{THIN}{escape(unit)}" if unit else text


def goal_of(m: Measure) -> str:
    """`at least 99.75 %`, or nothing."""
    if m.goal is None:
        return ""
    kind = kind_of(m.name)
    side = "at least " if kind in HIGHER else "at most " if kind in LOWER else ""
    return side + figure(m.goal, m.name, m.unit, digits=decimals(m.value, m.name, m.unit))


def outcome(m: Measure) -> str:
    """`reached`, or `missed by 0.13 points`; nothing where there is no goal or no known better side."""
    kind = kind_of(m.name)
    if m.goal is None or kind not in HIGHER + LOWER:
        return ""
    lacking = m.goal - m.value if kind in HIGHER else m.value - m.goal
    if lacking <= 0:
        return "reached"
    digits = decimals(m.value, m.name, m.unit)
    least = 10.0**-digits / (100 if not m.unit and kind in SHARES else 1)
    by = f"by {'less than ' if lacking < least / 2 else ''}{figure(max(lacking, least), m.name, m.unit, digits=digits)}"
    return f"missed {by.replace('%', 'points')}"


def verdict(m: Measure) -> str:
    """`outcome` with a mark, as HTML."""
    words = outcome(m)
    kind, _, _ = words.partition(" ")
    return f'<span class="{kind}">{"✓" if kind == "reached" else "✗"} {words}</span>' if words else ""
