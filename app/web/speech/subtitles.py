"""Words as subtitles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from app.codecs.captions import Cue, srt, vtt
from app.web.request.media_types import SRT, VTT
from app.web.speech.transcript import Word, segments


def cues(words: Sequence[Word], *, by_word: bool = False) -> list[Cue]:
    """Words that are shown together; `by_word` each by itself."""
    shown = [[word] for word in words] if by_word else segments(words)
    return [Cue(some[0].start_s, some[-1].end_s, " ".join(word.text for word in some)) for some in shown]


SUBTITLES: Final[Mapping[str, Callable[[Sequence[Word]], str]]] = {
    SRT: lambda words: srt(cues(words)),
    VTT: lambda words: vtt(cues(words)),
}
"""By media type."""
